"""Options: what a declaration gives the command line, the namespace and the attribute."""

import argparse
from typing import Any

import pytest

from sparts import cli
from sparts.declarations import option_texts, set_from_text
from sparts.errors import OptionError
from sparts.options import option
from sparts.vservice import VService
from sparts.vtask import VTask


class Fetcher(VTask):
    """Fetches pages.

    More about it.
    """

    LOOPLESS = True
    OPT_PREFIX = "fetch_all"
    HOST = "localhost"
    host: str = option(type=str, default=lambda cls: cls.HOST, help="where (%(default)s)")
    port: int = option(type=int, default="80", metavar="N")
    max_size: float = option(type=float, default=1.5)
    quiet: bool = option(action="store_true")
    colour: bool = option(action="store_false")
    strict: bool = option(type=bool, default=True)
    sizes: list[int] = option(type=int, nargs="*", default=[1])
    mode: str = option(type=str, choices=["fast", "slow"], default="fast")
    plain = option()


class Service(VService):
    """A service of the tests."""

    ALL_TASKS = [Fetcher]
    greeting: str = option(type=str, default="hello")


def make(*argv: str, service: type[VService] = Service) -> tuple[VService, Any]:
    instance = service(cli.parse(service, argv))
    instance.tasks.create(instance)
    return instance, instance.tasks[0]


def refusal(capsys: pytest.CaptureFixture[str], *argv: str, service: Any = Service) -> str:
    """What the command line says of *argv*, having exited with status 2."""
    with pytest.raises(SystemExit) as caught:
        cli.parse(service, argv)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_defaults_are_converted() -> None:
    """Each default, a callable's and a string's too, reads as the declared type."""
    _, task = make()
    assert ("localhost", 80, 1.5) == (task.host, task.port, task.max_size)
    assert (False, True, True) == (task.quiet, task.colour, task.strict)
    assert ([1], "fast", None) == (task.sizes, task.mode, task.plain)


def test_flags_and_names() -> None:
    """A prefix with _ is a flag with -, and the namespace has _ throughout."""
    service, task = make(
        "--fetch-all-max-size", "2", "--fetch-all-sizes", "3", "4", "--greeting=hi"
    )
    assert 2.0 == service.options.fetch_all_max_size == task.max_size
    assert [3, 4] == task.sizes
    assert "hi" == service.options.greeting == service.getOption("greeting")
    assert 2.0 == task.getTaskOption("max-size")


def test_flags_switch() -> None:
    """store_true and store_false are bools that the flag turns over; bool takes a word."""
    _, task = make("--fetch-all-quiet", "--fetch-all-colour", "--fetch-all-strict", "no")
    assert (True, False, False) == (task.quiet, task.colour, task.strict)


def test_assignment_sets_and_converts() -> None:
    """Assigning changes the namespace, converted as the command line's text would be."""
    service, task = make()
    task.port = "8080"
    assert 8080 == task.port == service.options.fetch_all_port
    task.sizes = ["5", 6]
    assert [5, 6] == task.sizes
    task.quiet = "yes"
    assert task.quiet is True
    task.port = None
    assert task.port is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("port", "many", "--fetch-all-port: 'many' is not int"),
        ("port", 3.7, "--fetch-all-port: 3.7 is not int (it has a fraction)"),
        ("quiet", "perhaps", "--fetch-all-quiet: 'perhaps' is not boolean (accepted: true, yes"),
        ("mode", "odd", "--fetch-all-mode: 'odd' is not one of fast, slow"),
    ],
)
def test_assignment_refuses(name: str, value: Any, said: str) -> None:
    """A value of another type, or not among the choices, is refused, and the old one stays."""
    service, task = make()
    before = getattr(task, name)
    with pytest.raises(OptionError) as caught:
        setattr(task, name, value)
    assert said in str(caught.value)
    assert before == getattr(task, name)
    with pytest.raises(OptionError):
        service.setOption(f"fetch_all_{name}", value)


def test_subclass_changes_default() -> None:
    """A default that is a callable of the class follows the subclass's attribute."""

    class Remote(Fetcher):
        HOST = "example.org"

    class Other(VService):
        ALL_TASKS = [Remote]

    assert "example.org" == make(service=Other)[1].host


def test_class_name_is_the_prefix() -> None:
    """Without OPT_PREFIX the flag has the class's name, as it is written."""

    class PrintClock(VTask):
        LOOPLESS = True
        interval: float = option(type=float, default=1.0)

    class Clock(VService):
        ALL_TASKS = [PrintClock]

    assert 2.5 == make("--PrintClock-interval", "2.5", service=Clock)[1].interval


def test_help_has_a_group_for_each_task(capsys: pytest.CaptureFixture[str]) -> None:
    """-h shows the task's name, its first docstring line and its defaults."""
    with pytest.raises(SystemExit) as caught:
        cli.parse(Service, ["-h"])
    assert 0 == caught.value.code
    text = capsys.readouterr().out
    assert "Fetcher:\n  Fetches pages.\n" in text
    assert "More about it" not in text
    assert "where (localhost)" in text
    assert "A service of the tests." in text


def test_misspelt_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown flag gets the nearest name, and is never taken for an abbreviation."""
    said = refusal(capsys, "--fetch-al-port", "1")
    assert "--fetch-al-port; did you mean --fetch-all-port?" in said
    assert "did you mean --greeting?" in refusal(capsys, "--greetin=x")


def test_wrong_value(capsys: pytest.CaptureFixture[str]) -> None:
    """A value of the wrong type names the flag and the value."""
    said = refusal(capsys, "--fetch-all-port", "many")
    assert "--fetch-all-port: invalid int value: 'many'" in said
    assert "'-1' is not a number of seconds" in refusal(capsys, "--stop-timeout", "-1")
    assert "'nan' is not a number of seconds" in refusal(capsys, "--stop-timeout", "nan")


def test_duplicate_flag_names_both_owners() -> None:
    """Two tasks with one flag are an error that names both."""

    class Crawler(VTask):
        LOOPLESS = True
        OPT_PREFIX = "fetch-all"
        port: int = option(type=int, default=1)

    class Twice(VService):
        ALL_TASKS = [Fetcher, Crawler]

    with pytest.raises(OptionError, match=r"--fetch-all-port .* Fetcher and Crawler"):
        Twice._buildArgumentParser()


def test_own_argument_collides() -> None:
    """A flag that the service's own parser has already is an error that names the owner."""

    class Own(VService):
        ALL_TASKS = [Fetcher]

        @classmethod
        def _addArguments(cls, ap: argparse.ArgumentParser) -> None:
            super()._addArguments(ap)
            ap.add_argument("--fetch-all-port")

    with pytest.raises(OptionError, match=r"Fetcher: .*--fetch-all-port"):
        Own._buildArgumentParser()


def test_required_option(capsys: pytest.CaptureFixture[str]) -> None:
    """A required option must be given, unless the service has a default for it."""

    class Needy(VTask):
        LOOPLESS = True
        key: str = option(type=str, required=True)

    class Wants(VService):
        ALL_TASKS = [Needy]

    class Has(Wants):
        DEFAULTS = {"Needy_key": "k"}

    assert "--Needy-key" in refusal(capsys, service=Wants)
    assert "k" == make(service=Has)[1].key


def test_a_misspelt_required_option(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt flag is told as that, not as a required one that is missing."""

    class Needy(VTask):
        LOOPLESS = True
        key: str = option(type=str, required=True)

    class Wants(VService):
        ALL_TASKS = [Needy, Fetcher]

    said = refusal(capsys, "--Needy-kee", "x", service=Wants)
    assert "unrecognized arguments: --Needy-kee; did you mean --Needy-key?" in said
    assert cli.parse(Wants, ["--status"]).status
    assert cli.parse(Wants, ["--tasks", "Fetcher"]).Needy_key is None
    with pytest.raises(SystemExit) as caught:
        cli.parse(Wants, ["--tasks"])
    assert 1 == caught.value.code
    assert "--Needy-key" in refusal(capsys, "--tasks", "Needy", service=Wants)


def test_service_defaults() -> None:
    """DEFAULTS sets another default for a task's option; a subclass adds to its base's."""

    class Base(Service):
        DEFAULTS = {"fetch_all_port": "81", "fetch_all_mode": "slow"}

    class Derived(Base):
        DEFAULTS = {"fetch_all_port": 82}

    assert 81 == make(service=Base)[1].port
    task = make(service=Derived)[1]
    assert (82, "slow") == (task.port, task.mode)
    assert 7 == make("--fetch-all-port", "7", service=Derived)[1].port


def test_unknown_default() -> None:
    """A name in DEFAULTS that no task has is an error with the nearest one."""

    class Wrong(Service):
        DEFAULTS = {"fetch_all_prt": 1}

    with pytest.raises(OptionError, match="'fetch_all_prt'; did you mean 'fetch_all_port'"):
        Wrong._buildArgumentParser()


def test_default_port() -> None:
    """DEFAULT_PORT is the default of the one task with a port."""

    class Port(Service):
        DEFAULT_PORT = 8000

    assert 8000 == make(service=Port)[1].port


def test_default_port_without_one_task() -> None:
    """DEFAULT_PORT with no port, or with two, is an error that names the tasks."""

    class Second(VTask):
        LOOPLESS = True
        port: int = option(type=int, default=1)

    class Two(Service):
        ALL_TASKS = [Fetcher, Second]
        DEFAULT_PORT = 8000

    class Zero(VService):
        DEFAULT_PORT = 8000

    with pytest.raises(OptionError, match=r"Fetcher, Second have one each.*fetch_all_port"):
        Two._buildArgumentParser()
    with pytest.raises(OptionError, match="none of its tasks has one"):
        Zero._buildArgumentParser()


def test_namespace_made_by_hand() -> None:
    """An empty namespace is filled with the defaults, DEFAULTS included."""

    class Base(Service):
        DEFAULTS = {"fetch_all_port": "81"}

    service = Base(argparse.Namespace(fetch_all_mode="slow"))
    assert (81, "slow") == (service.options.fetch_all_port, service.options.fetch_all_mode)
    assert 30.0 == service.stop_timeout


def test_get_and_set_option() -> None:
    """getOption knows - and _ and gives the default for None; setOption takes new names."""
    service, task = make()
    assert "x" == service.getOption("fetch-all-plain", "x") == service.getOption("unknown", "x")
    service.setOption("fetch-all-port", "9")
    assert 9 == task.port
    task.setTaskOption("port", "10")
    assert 10 == service.getOptions()["fetch_all_port"]
    service.setOption("own", [1])
    assert [1] == service.getOption("own")
    service.getOptions()["own"] = 2
    assert [1] == service.getOption("own")


@pytest.mark.parametrize("name", ["name", "stop", "options", "logger"])
def test_a_name_that_is_taken(name: str) -> None:
    """An option that would hide what every task has is refused, with the way to write it."""
    shadow = type("Shadow", (VTask,), {name: option(type=int, default=1)})
    service: Any = type("Shadowed", (VService,), {"ALL_TASKS": [shadow]})
    with pytest.raises(OptionError, match=rf"Shadow\.{name} is .* option\(name='{name}'"):
        service._buildArgumentParser()
    kept = type("Kept", (VTask,), {f"{name}_": option(name=name, type=int, default=1)})
    service = type("Keeps", (VService,), {"ALL_TASKS": [kept]})
    assert 5 == getattr(
        service(cli.parse(service, [f"--Kept-{name}", "5"])).options, f"Kept_{name}"
    )


def test_a_percent_sign_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    """A % in help that stands for itself is shown, beside marks that stand for values."""

    class Sure(VService):
        rate: int = option(type=int, default=3, help="100% sure, %(default)s%")

    with pytest.raises(SystemExit):
        cli.parse(Sure, ["-h"])
    assert "100% sure, 3%" in capsys.readouterr().out


def test_own_port_option() -> None:
    """DEFAULT_PORT is left to a service that has the port option itself."""

    class Own(VService):
        DEFAULT_PORT = 80
        port: int = option(type=int, default=lambda cls: cls.DEFAULT_PORT)

    assert 80 == Own(cli.parse(Own, [])).port


def test_list_default_is_converted() -> None:
    """With nargs every element of a default is converted."""

    class Listing(VService):
        sizes: list[int] = option(type=int, nargs="+", default=["1", "2"])

    assert [1, 2] == Listing(cli.parse(Listing, [])).sizes


def test_text_in_a_namespace_made_by_hand() -> None:
    """What a namespace made by hand has as text is converted, or refused."""
    service = Service(argparse.Namespace(stop_timeout="5", fetch_all_port="81", level="debug"))
    assert (5.0, 81, 10) == (service.stop_timeout, service.options.fetch_all_port, service.loglevel)
    with pytest.raises(OptionError, match="--stop-timeout"):
        Service(argparse.Namespace(stop_timeout="soon"))


def test_flag_with_a_type() -> None:
    """A store_true option with a type contradicts itself."""
    with pytest.raises(OptionError, match="store_true takes no value"):
        option(name="x", action="store_true", type=int)


# -- secrets, and values as texts -----------------------------------------------------------------
class Vault(VTask):
    """Keeps what nobody may see."""

    LOOPLESS = True
    OPT_PREFIX = "vault"
    key: str = option(type=str, default="s3cret", secret=True, help="opens it (%(default)s)")
    code: int | None = option(type=int, secret=True, choices=[71077345, 2])
    codes: list[int] = option(type=int, nargs="*", secret=True)
    sealed: bool = option(action="store_true", secret=True)


class Bank(VService):
    ALL_TASKS = [Vault, Fetcher]


def test_a_secret_reads_as_any_option() -> None:
    """What is secret has its value, converted, for the code that declares it."""
    _, task = make("--vault-key", "x", "--vault-code=2", "--vault-codes", "3", "4", service=Bank)
    assert ("x", 2, [3, 4], False) == (task.key, task.code, task.codes, task.sealed)
    task.code = "71077345"
    assert 71077345 == task.code


def test_help_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """-h shows neither the default of a secret nor its choices."""
    with pytest.raises(SystemExit):
        cli.parse(Bank, ["-h"])
    said = capsys.readouterr().out
    assert "opens it (********)" in said
    assert "s3cret" not in said
    assert "71077345" not in said


@pytest.mark.parametrize("flag", ["--vault-code=12345", "--vault-code=hush", "--vault-codes=hush"])
def test_errors_show_no_secret(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    """The error of a wrong secret names the option, and not the value, wherever it came from."""
    said = refusal(capsys, flag, service=Bank)
    name, _, value = flag.partition("=")
    assert f"argument {name}: what was given is no value of it" in said
    assert value not in said
    service, _ = make(service=Bank)
    with pytest.raises(OptionError, match=f"^{name}: what was given is no value") as caught:
        service.setOption(name[2:], value)
    assert value not in str(caught.value)


def test_values_as_texts() -> None:
    """As a text, no value is '', a bool a word, a list its words; a secret is hidden if set."""
    service, task = make("--fetch-all-sizes", "1", "2", service=Bank)
    task.sealed = None
    texts = option_texts(service)
    assert set(service.getOptions()) == set(texts)
    assert ("1 2", "", "80") == tuple(texts[f"fetch_all_{n}"] for n in ("sizes", "plain", "port"))
    assert ("false", "true") == (texts["fetch_all_quiet"], texts["fetch_all_colour"])
    assert ("********", "", "", "") == tuple(
        texts[f"vault_{name}"] for name in ("key", "code", "codes", "sealed")
    )
    service.setOption("undeclared", "x")
    assert "undeclared" not in option_texts(service)


def test_setting_by_texts() -> None:
    """A text is converted as on the command line; what was shown sets the same value again."""
    service, vault = make(service=Bank)
    task: Any = service.requireTask(Fetcher)
    for name, text in {"sizes": "5 '6'", "port": "7", "quiet": "true", "mode": "slow"}.items():
        set_from_text(service, f"fetch-all-{name}", text)
    assert ([5, 6], 7, True, "slow") == (task.sizes, task.port, task.quiet, task.mode)
    before = service.getOptions()
    for name, text in option_texts(service).items():
        if text and text != "********":
            set_from_text(service, name, text)
    assert before == service.getOptions()
    set_from_text(service, "vault_key", "new")
    assert "new" == vault.key


class Pair(VTask):
    LOOPLESS = True
    pair: list[int] = option(type=int, nargs=2, default=[1, 2])
    some: list[int] = option(type=int, nargs="+", default=[1])


class Counted(VService):
    ALL_TASKS = [Pair]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("stop_timeoot", "1", "no option 'stop_timeoot'; did you mean 'stop_timeout'"),
        ("x" * 100_000, "1", f"no option '{'x' * 100}'"),
        ("stop_timeout", "soon", "--stop-timeout: 'soon' is not seconds"),
        ("level", "loud", "--level: 'LOUD' is not one of DEBUG, INFO"),
        ("Pair_pair", "1", "--Pair-pair: 1 values, but it takes 2"),
        ("Pair_pair", "1 2 3", "--Pair-pair: 3 values, but it takes 2"),
        ("Pair_some", "", "--Pair-some: 0 values, but it takes +"),
        ("Pair_some", "'1", "--Pair-some: No closing quotation; quote as in a shell"),
        ("Pair_some", "1 x", "--Pair-some: "),
    ],
)
def test_wrong_texts(name: str, text: str, said: str) -> None:
    """An unknown name, and a text that is no value, are refused, and nothing is changed."""
    service, _ = make(service=Counted)
    before = service.getOptions()
    with pytest.raises(OptionError) as caught:
        set_from_text(service, name, text)
    assert str(caught.value).startswith(said)
    assert before == service.getOptions()
