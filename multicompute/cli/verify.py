"""`verify`: checks the promises of this package in your own account, and writes a report."""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from multicompute.cli.output import confirm, write_json, write_message
from multicompute.cli.tables import explain, json_argument
from multicompute.errors import ConfigError, SpecError

if TYPE_CHECKING:
    from multicompute.verify.findings import Finding
    from multicompute.verify.purchase import Purchase
    from multicompute.verify.report import Report

CHECK_FAILED: Final = 1
REFUSED: Final = 6
LEFT: Final = 9
_MAX_SPEND: Final = 2.0


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `verify`."""
    from multicompute.cli.arguments import add_request_arguments

    parser.add_argument("cloud", metavar="CLOUD", help="name of the provider")
    add_request_arguments(parser, only=("regions", "type"))
    parser.add_argument(
        "--max-spend",
        metavar="USD",
        type=float,
        default=_MAX_SPEND,
        help=f"the most that it may cost, {_MAX_SPEND:.2f} by default; nothing is launched if it could cost more",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    json_argument(parser)
    explain(
        parser,
        "Launches a few of the cheapest machines, without accelerators where the cloud has such, for some minutes, and terminates\n"
        "them whatever happens. The report has no account numbers, ids, addresses or names: attach it to an issue.\n\n"
        "Exit status: 0 if every check passed; 1 if one failed, or if you did not confirm; 6 if the cloud could not be asked;\n"
        "9 if something is left in the cloud.",
    )


def verify(options: argparse.Namespace) -> int:
    """Run the checks and print the report."""
    from multicompute.session import open_session
    from multicompute.verify.purchase import choose
    from multicompute.verify.verification import verify as check_promises

    if not options.yes and not sys.stdin.isatty():
        raise SpecError("verify: needs a confirmation", hint="there is no terminal to ask on: add --yes")
    if not options.max_spend > 0:
        raise SpecError(f"--max-spend {options.max_spend:g}: must be more than 0")
    session = open_session()
    if options.cloud not in session.plugins:
        raise ConfigError(f"no provider is named {options.cloud!r}", hint=f"installed are {', '.join(session.plugins)}")
    purchase = choose(
        session,
        options.cloud,
        types=getattr(options, "type", ()),
        regions=getattr(options, "regions", ()),
        max_spend=options.max_spend,
    )

    def is_confirmed(purchase: "Purchase") -> bool:
        write_message(purchase.describe())
        return bool(options.yes) or confirm("Launch them?")

    report = check_promises(session, purchase, confirm=is_confirmed, notify=_show)
    if report is None:
        write_message("nothing was launched")
        return CHECK_FAILED
    if options.json:
        write_json(report.to_dict())
    else:
        print(report.to_markdown())
    return _status(report)


def _show(finding: "Finding") -> None:
    write_message(f"{finding.name}: {finding.status.value}: {finding.text}")


def _status(report: "Report") -> int:
    if report.left:
        names = ", ".join(report.left)
        write_message(
            f"multicompute: {names}: something is left; `multicompute reap` continues, `multicompute reconcile` lists it"
        )
        return LEFT
    if report.is_refused:
        return REFUSED
    return CHECK_FAILED if report.failed else 0
