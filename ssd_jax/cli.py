"""What the command lines share: parsing flags, and faults told in one line."""

import fnmatch
import functools
import io
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from ssd_jax import compilation, export, processes
from ssd_jax import config as config_lib
from ssd_jax.console import one_line
from ssd_jax.schedules import with_schedule

_TRACEBACK = flags.DEFINE_bool("traceback", False, "Show the whole traceback of an error.")

# What a user can cause: a wrong path or value, a broken file, a full disk, a diverging run, a cache
# or a batch larger than the memory.
USER_FAULTS = (ValueError, OSError, ArithmeticError, MemoryError)

_LESS_MEMORY = (
    "The memory of a device is full: in training a smaller train.batch_size, a larger "
    "train.accumulate, train.remat=True, model.dtype=bfloat16 and data.cache=host or none need "
    "less, in evaluation a smaller evaluate.batch_size, in detection a smaller --batch_size; other "
    "programs on the device take of it too"
)


def define_config() -> Any:
    """Defines `--config FILE`, whose fields `--config.train.steps=10` and the like override."""
    return config_flags.DEFINE_config_file(
        "config", None, "A recipe, such as configs/voc300.py; --config.FIELD=VALUE changes a field."
    )


def required_config(flag: Any) -> ConfigDict:
    """The config that was given, with what its `schedule` sets, which is printed.

    Raises:
      ValueError: none was given, or its schedule is not for it.
    """
    if flag.value is None:
        raise ValueError("--config is missing: give a recipe, such as --config configs/shapes.py")
    given = config_flags.get_override_values(flags.FLAGS[flag.name])
    config = with_schedule(flag.value, given)
    for name, (_, value) in config_lib.differences(flag.value, config).items():
        if name != "schedule" and processes.is_first():
            print(f"schedule={flag.value.schedule} sets config.{name} to {value!r}")
    return config


def changed(config: ConfigDict, arguments: Sequence[str], fields: Sequence[str]) -> ConfigDict:
    """A config that is there, with the fields that `--config.FIELD=VALUE` sets.

    Args:
      config: a whole config; it is not changed.
      arguments: what `run(..., fields_apart=True)` left of the command line.
      fields: those that may be set, such as 'data.kind' or 'detect.*'.

    Raises:
      ValueError: another field is set, one that there is not, or by no value of its type.
    """
    config = config.copy_and_resolve_references().lock()
    for argument in arguments:
        name, _, value = argument.partition("=")
        field = name.removeprefix("--config.")
        if not (name.startswith("--config.") and value):
            raise ValueError(f"unexpected {argument}: options are --NAME=VALUE")
        if not any(fnmatch.fnmatchcase(field, each) for each in fields):
            allowed = ", ".join(f"--config.{each}" for each in fields)
            raise ValueError(f"{name} is as it was in training; what can be set is {allowed}")
    values, argv = flags.FlagValues(), ["", *arguments]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        values(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as fault:
        raise ValueError(one_line(fault)) from fault
    return config


def define_processes() -> Callable[[], object]:
    """Defines the flags of a run of several processes; returns what makes this one of them."""
    coordinator = flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0, for a run of several processes [by cluster]."
    )
    number = flags.DEFINE_integer("num_processes", None, "How many processes [by cluster].", 1)
    which = flags.DEFINE_integer("process_id", None, "Which process this is, from 0.", 0)
    heartbeat = flags.DEFINE_integer(
        "heartbeat", 30, "Seconds of silence after which a process is dead, and the others end.", 5
    )
    return lambda: processes.connect(coordinator.value, number.value, which.value, heartbeat.value)


def define_model() -> tuple[Any, Any]:
    """Defines `--model FILE`, an exported file that detects, and `--runtime` to run it by."""
    model = flags.DEFINE_string("model", None, "A file of export.py that detects instead.")
    runtime = flags.DEFINE_enum(
        "runtime", None, export.RUNTIMES, "What runs --model [jax, onnxruntime]."
    )
    return model, runtime


def make_folder(folder: Path) -> None:
    """Makes the folder of `--out`, before the work that its content costs.

    Raises:
      OSError: files cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as fault:
        raise OSError(
            f"cannot write into {folder} ({fault.strerror}): give another folder as --out"
        ) from None


def run(main: Callable[[Sequence[str]], None], *, fields_apart: bool = False) -> None:
    """Parses the flags, runs `main` with what is left of the command line, and exits.

    With `fields_apart`, what is left may hold `--config.FIELD=VALUE`, for `changed`.

    A fault of `USER_FAULTS` is printed as one line with exit code 1; `--traceback` shows where it
    arose. Ctrl-C exits with code 130.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8

    def guarded(arguments: Sequence[str]) -> None:
        absl_logging.set_verbosity(absl_logging.ERROR)
        logging.getLogger("ssd_jax").setLevel(logging.INFO)
        try:
            _call(main, arguments[1:])
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as fault:
            if processes.are_several():
                _leave_the_others(fault)
            if _TRACEBACK.value or not isinstance(fault, USER_FAULTS):
                raise
            sys.exit(f"error: {one_line(fault)}")

    # `--help` lists the flags of the script's own module and those that are made its own.
    for module in (__name__, compilation.__name__):
        for flag in flags.FLAGS.flags_by_module_dict().get(module, ()):
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(guarded, flags_parser=functools.partial(_parse, fields_apart))


def _call(main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Calls `main`; where a device lacks memory, says what needs less.

    Raises:
      MemoryError: a device lacks memory, which JAX tells as it does a lost process.
    """
    try:
        main(arguments)
    except jax.errors.JaxRuntimeError as fault:
        if "RESOURCE_EXHAUSTED" not in str(fault):
            raise
        # What follows the first line are tables of the compiler's.
        raise MemoryError(f"{str(fault).splitlines()[0]} {_LESS_MEMORY}") from fault


def _leave_the_others(fault: Exception) -> NoReturn:
    """Tells a fault of one of several processes, and ends it."""
    try:
        if _TRACEBACK.value or not isinstance(fault, USER_FAULTS):
            traceback.print_exception(fault)
        print(f"error: {processes.this_one()}: {one_line(fault)}", file=sys.stderr)
        if processes.lost_touch(fault):
            print("error: another process is gone; which one follows", file=sys.stderr, flush=True)
            processes.await_verdict(flags.FLAGS.heartbeat)
    finally:  # also where nobody reads what is printed any more
        processes.leave(1)


def _with_home(argument: str) -> str:
    """`--root=~/data` with the home folder in place of ~, which shells leave alone there."""
    name, equals, value = argument.partition("=")
    return f"{name}{equals}{os.path.expanduser(value)}" if value.startswith("~") else argument


def _parse(fields_apart: bool, arguments: Sequence[str]) -> list[str]:
    arguments = [_with_home(argument) for argument in arguments]
    apart = [each for each in arguments if fields_apart and each.startswith("--config.")]
    try:
        return [*flags.FLAGS([each for each in arguments if each not in apart]), *apart]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as fault:
        if "--traceback" in arguments:
            raise
        # ml_collections names a field without the path to it: show which flag was meant.
        fields = [argument.split("=")[0] for argument in arguments if "--config." in argument]
        meant = [field for field in fields if field.split(".")[-1] in str(fault)]
        # It also quotes its message, as KeyError does, which escapes what is in it.
        message = one_line(fault).replace("\\n", " ").replace("\\", "")
        sys.exit(f"error: {' '.join([*meant, message])}")
