"""What `model.onnx` says of itself: metadata, and a doc string on each input and output."""

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from weldnet.export.handover import describe_outputs
from weldnet.inference.model_card import ExportCard
from weldnet.inference.onnx_format import FINISHED

MODEL_VERSION = 3
"""Of the graph's inputs and outputs, as `model_version`: that of `model.json`, in which they changed."""


def describe_network(network: Any, card: ExportCard) -> None:
    """Writes an export's facts into an `onnx_ir.Model`."""
    network.producer_name, network.producer_version = "weldnet", version("weldnet")
    network.domain, network.model_version = "weldnet", MODEL_VERSION
    network.doc_string = "\n".join(
        ["A weld classifier; metadata_props hold its classes and its rule.", *card.input_rule]
    )
    values = {
        "classes": card.classes,
        "geometry": asdict(card.geometry),
        "operating_point": card.point.to_dict(),
        "rule": card.rule,
    }
    # Our own reader refuses a file that has this word, which names weights in a file of their own.
    facts = {name: json.dumps(value).replace("location", r"\u006cocation") for name, value in values.items()} | {
        "input": card.input,
        "layout": card.layout,
        "checkpoint_digest": card.checkpoint.digest,
        "split_digest": card.split_digest,
        "date": card.date,
        "licence": "of whoever trained it, bound by the licences of the photographs and of the weights that training "
        "began with; weldnet's own licence, MIT, does not cover it",
    }
    network.metadata_props.update(facts)
    texts = describe_outputs(card) | {
        "images": " ".join(card.input_rule),
        FINISHED: "weldnet's own: the images are in the network's geometry already. Leave it away",
    }
    for value in (*network.graph.inputs, *network.graph.outputs):
        value.doc_string = texts[value.name]
