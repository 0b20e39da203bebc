"""Options by which commands on many scans choose their engine."""

from __future__ import annotations

import argparse

from ct.refusal import Refusal
from machine.engines.dask_cluster import DaskCluster
from machine.engines.engine import Engine
from machine.engines.parts import Part

LOCAL, DASK = "local", "dask"


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add --part, --gather, --engine, --scheduler and --resources."""
    group = parser.add_argument_group("many machines (docs/scaling.md)")
    group.add_argument("--part", metavar="I/N", help="do the I-th of N shares alone, as in a job array")
    group.add_argument("--gather", action="store_true", help="check that all parts are done, and write the tables")
    group.add_argument(
        "--engine", choices=(LOCAL, DASK), default=LOCAL, help="this machine (default) or a Dask cluster that runs"
    )
    group.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster, for example tcp://10.0.0.1:8786")
    group.add_argument(
        "--resources", nargs="+", default=(), metavar="NAME=AMOUNT", help="what a scan takes of a worker: GPU=1"
    )


def part_of(options: argparse.Namespace) -> Part | None:
    """Return the part that was asked for.

    Raises:
        ValueError: Options contradict each other.
    """
    if options.gather and (options.part or options.engine == DASK):
        raise Refusal("--gather was given with --part or --engine dask; it only collects what parts have done")
    if options.part and options.engine == DASK:
        raise Refusal("--part was given with --engine dask; a cluster shares the work itself: give one of them")
    if options.engine == LOCAL and (options.scheduler or options.resources):
        raise Refusal("--scheduler or --resources was given without --engine dask, which they belong to")
    return Part.parse(options.part) if options.part else None


def engine_of(options: argparse.Namespace, local: Engine) -> Engine:
    """Return the engine that was asked for.

    Args:
        options: With those of `add_engine_options`.
        local: What "local" means to the command.

    Raises:
        ValueError: Dask's address is missing or a resource cannot be read.
    """
    if options.engine == LOCAL:
        return local
    if not options.scheduler:
        raise Refusal("--engine dask needs the address of its scheduler: --scheduler tcp://<host>:<port>")
    return DaskCluster(options.scheduler, dict(map(_resource, options.resources)))


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount)
    except ValueError:
        raise Refusal("--resources {text!r}: expected NAME=AMOUNT, for example GPU=1", text=text) from None
