"""Every page, chart and table that is rendered: for the audit, the report and explained photographs."""
