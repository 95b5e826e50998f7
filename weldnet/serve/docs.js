// Without a validator: it would be a server elsewhere.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#interface", validatorUrl: null, defaultModelsExpandDepth: 0 });
