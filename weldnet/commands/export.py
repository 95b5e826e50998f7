"""weldnet-export: writes a checkpoint for ONNX Runtime or OpenVINO, and keeps it only if it passes the parity gate."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig, OmegaConf

from weldnet.config.hydra_app import command, warn_of_no_effect
from weldnet.config.own_data import find_origin, set_up_data, warn_of_unused
from weldnet.config.runs import name_folder, show, show_command
from weldnet.config.schema import DataConfig, ModelKeys, take
from weldnet.errors import InputError, check_choice
from weldnet.export.settings import Bounds, InputSettings, Int8Settings

if TYPE_CHECKING:
    from rich.table import Table


@dataclass
class ExportSettings(Int8Settings, Bounds, InputSettings):
    """What the export takes, the bounds of the parity gate, and the settings of int8."""


@dataclass
class ExportConfig(ModelKeys):
    """The keys of `weldnet-export`."""

    format: str = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    export: ExportSettings = field(default_factory=ExportSettings)


def run(cfg: DictConfig) -> None:
    """Exports a checkpoint from a composed config."""
    # Before torch is imported, which takes seconds.
    file = find_origin(cfg.ckpt_path, " already")

    from weldnet.inference.exported import FORMATS

    if OmegaConf.is_missing(cfg, "format"):
        raise InputError(f"format is not given; type one of {', '.join(f'format={name}' for name in FORMATS)}")
    check_choice("format", cfg.format, tuple(FORMATS))

    from weldnet.console import print_table
    from weldnet.export.exporter import choose_layout, export_model, require_judge
    from weldnet.export.settings import FOR_FLOAT, Bounds, InputSettings, Int8Settings
    from weldnet.inference.checkpoint import load_checkpoint
    from weldnet.inference.engines import import_extra

    folder = name_folder("export", cfg.output_dir)
    chosen_format = FORMATS[cfg.format]
    bounds, int8, takes = take(Bounds, cfg.export), take(Int8Settings, cfg.export), take(InputSettings, cfg.export)
    without_effect = FOR_FLOAT if chosen_format.is_int8 else {*asdict(bounds), *asdict(int8)} - FOR_FLOAT
    warn_of_no_effect({f"export.{name}" for name in without_effect}, f"format={cfg.format}")
    if choose_layout(takes, chosen_format) is None:
        warn_of_no_effect({"export.layout"}, "a finished image, which is always nchw")
    checkpoint = load_checkpoint(file)
    require_judge(checkpoint)
    for package in chosen_format.packages:
        import_extra(package)
    warn_of_unused(cfg.data)
    reason = "an export is measured on its own validation images. Where they have moved, type data.root=DIR"
    data = set_up_data(cfg, checkpoint, reason, only_own=True)
    figures = export_model(checkpoint, data, cfg.format, folder, bounds, int8, takes)
    print_table(draw_parity(figures))
    print(f"the export: {show(folder)}")
    print(f"all of it:  {show(folder / 'parity.json')}")
    print(f"read:       {show(folder / 'README.md')}")
    print(f"next:       {show_command('weldnet-predict')} ckpt_path={show(folder)} source=DIR")


def draw_parity(figures: dict[str, Any]) -> "Table":
    """The figures of `parity.json` as a table for the terminal."""
    from rich.table import Table

    table = Table()
    table.add_column(f"{figures['num_images']} validation images")
    table.add_column(figures["runtime"], justify="right")
    for name in ("largest_probability_error", "mean_probability_error", "largest_distance_error"):
        table.add_row(name.replace("_", " "), f"{figures[name]:.2g}")
    table.add_row("verdicts that differ", str(figures["verdict_changes"]))
    if of_files := figures.get("files"):
        table.add_row(
            f"from {of_files['num_images']} files: largest mean error in grey levels",
            f"{of_files['largest_level_error']:.2g}",
        )
        table.add_row("from files: largest probability error", f"{of_files['largest_probability_error']:.2g}")
        table.add_row("from files: verdicts that differ", str(of_files["verdict_changes_by_decoding"]))
    if "max_probability_error" not in figures["bounds"]:
        before, after = figures["before"], figures["after"]
        for name in ("accuracy", "balanced_accuracy"):
            table.add_row(name.replace("_", " "), f"{before[name]:.4f} -> {after[name]:.4f}")
        for label, name in (("defects accepted", "escapes"), ("referred", "refer")):
            table.add_row(label, f"{before[name]['k']} -> {after[name]['k']} of {after[name]['n']}")
        table.add_row("classes that differ", str(figures["class_changes"]))
        table.add_row("unlike training that differ", str(figures["unlike_changes"]))
    return table


main = command("export", run, ExportConfig)
