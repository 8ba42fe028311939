"""Four layers, one rule a setting, every problem at once with its place."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_core import limits
from dagnats_core.config import FIELDS, Address, Config, load_config, show_config
from dagnats_core.config.load import default_data_dir
from dagnats_core.errors import Invalid, Problem
from dagnats_core.server.settings import Durability
from dagnats_core.telemetry.logs import LogFormat, LogLevel


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    path = tmp_path / "cwd"
    path.mkdir()
    return path


def load(cwd: Path, home: Path, flags: dict[str, object] | None = None, **env: str) -> Config:
    return load_config(flags or {}, {"HOME": str(home), **env}, cwd)


def problems_of(cwd: Path, home: Path, flags: dict[str, object] | None = None, **env: str) -> tuple[Problem, ...]:
    with pytest.raises(Invalid) as caught:
        load(cwd, home, flags, **env)
    return caught.value.problems


def test_defaults(cwd: Path, home: Path) -> None:
    config = load(cwd, home, XDG_DATA_HOME=str(home / "share"))
    assert config == Config(
        config=None,
        data_dir=home / "share" / "dagnats",
        site="local",
        nats_port=4222,
        durability=Durability.ALWAYS,
        http_addr=Address("127.0.0.1", 8080),
        no_http=False,
        archive_retention=timedelta(days=30),
        nats_url="nats://127.0.0.1:4222",
        creds=None,
        log_format=LogFormat.AUTO,
        log_level=LogLevel.INFO,
        sources=dict.fromkeys(FIELDS, "default"),
    )


def test_each_layer_overrides_the_one_before_and_says_so(cwd: Path, home: Path) -> None:
    file = cwd / "dagnats.yaml"
    file.write_text("site: from-file\nnats_port: 1\nlog_level: debug\n")
    config = load(cwd, home, {"site": "from-flag", "log_level": None}, DAGNATS_NATS_PORT="2", DAGNATS_SITE="from-env")
    assert (config.site, config.nats_port, config.log_level) == ("from-flag", 2, LogLevel.DEBUG)
    assert config.config == file
    assert config.sources["site"] == "flag --site"
    assert config.sources["nats_port"] == "env DAGNATS_NATS_PORT"
    assert config.sources["log_level"] == f"{file}:3"
    assert config.sources["durability"] == "default"


def test_an_empty_variable_counts_as_not_set(cwd: Path, home: Path) -> None:
    assert load(cwd, home, DAGNATS_SITE="").sources["site"] == "default"


def test_the_first_file_that_exists_is_used_alone(cwd: Path, home: Path) -> None:
    config_home = home / ".config" / "dagnats"
    config_home.mkdir(parents=True)
    (config_home / "dagnats.yaml").write_text("site: a\nnats_port: 7\n")
    assert load(cwd, home).site == "a"
    (cwd / "dagnats.yaml").write_text("site: b\n")
    config = load(cwd, home)
    assert (config.site, config.nats_port) == ("b", 4222)


def test_xdg_config_home_takes_the_place_of_the_home(cwd: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "xdg" / "dagnats").mkdir(parents=True)
    (tmp_path / "xdg" / "dagnats" / "dagnats.yaml").write_text("site: x\n")
    assert load(cwd, home, XDG_CONFIG_HOME=str(tmp_path / "xdg")).site == "x"


def test_a_named_file_takes_the_place_of_the_usual_ones(cwd: Path, home: Path) -> None:
    (cwd / "dagnats.yaml").write_text("site: usual\n")
    (cwd / "other.yaml").write_text("site: named\n")
    assert load(cwd, home, DAGNATS_CONFIG="other.yaml").site == "named"
    config = load(cwd, home, {"config": Path("other.yaml")})
    assert (config.site, config.config, config.sources["config"]) == (
        "named",
        cwd / "other.yaml",
        "flag --config",
    )


def test_a_named_file_must_exist(cwd: Path, home: Path) -> None:
    (problem,) = problems_of(cwd, home, {"config": "missing.yaml"})
    assert problem == Problem(str(cwd / "missing.yaml"), "file", "cannot be read: No such file or directory")


def test_every_problem_of_every_layer_is_told_at_once(cwd: Path, home: Path) -> None:
    file = cwd / "dagnats.yaml"
    file.write_text("nats_prt: 5\nsite: UPPER\n\nsite: again\nhttp_addr: [1]\nno_http:\ndurability: sometimes\n")
    problems = problems_of(cwd, home, {"nats_port": "x"}, DAGNATS_NO_HTTP="maybe")
    assert [(problem.path, problem.rule) for problem in problems] == [
        (f"{file}:4", "duplicate_key"),
        (f"{file}:5", "value"),
        (f"{file}:6", "value"),
        (f"{file}:1", "unknown_key"),
        (f"{file}:2", "site"),
        ("flag --nats-port", "port"),
        (f"{file}:7", "durability"),
        ("env DAGNATS_NO_HTTP", "switch"),
    ]
    messages = {problem.rule: problem.message for problem in problems}
    assert messages["unknown_key"].endswith("did you mean nats_port?")
    assert (
        messages["port"] == "nats_port: 'x' is not allowed; it must be an integer from 0 to 65535; 0 takes a free port"
    )
    assert messages["durability"].endswith("one of always, 1s, os")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"site: [a", "yaml"),
        (b"site: a\n---\nsite: b\n", "yaml"),
        (b"\xff\xfe", "yaml"),
        (b"site: \x01", "yaml"),
        (b"site: " + b"[" * 50_000, "yaml"),
        (b"- a\n- b\n", "mapping"),
        (b"just text", "mapping"),
        (b"? [a]\n: b\n", "key"),
        (b"site: !!python/object/apply:os.system [x]\n", "value"),
        (b"x: &a [b]\nsite: *a\n", "value"),
        (b"#" * (limits.CONFIG_BYTES_MAX + 1), "size"),
        (b"config: other.yaml\n", "unknown_key"),
    ],
)
def test_a_file_of_the_wrong_form_is_refused(cwd: Path, home: Path, content: bytes, rule: str) -> None:
    (cwd / "dagnats.yaml").write_bytes(content)
    assert rule in {problem.rule for problem in problems_of(cwd, home)}


@pytest.mark.parametrize("content", ["", "# nothing\n", "{}", "---\n"])
def test_an_empty_file_is_fine(cwd: Path, home: Path, content: str) -> None:
    (cwd / "dagnats.yaml").write_text(content)
    assert load(cwd, home).sources == dict.fromkeys(FIELDS, "default")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("nats_port", "0", 0),
        ("nats_port", "65535", 65535),
        ("http_addr", "[::1]:80", Address("::1", 80)),
        ("http_addr", "localhost:0", Address("localhost", 0)),
        ("no_http", "Yes", True),
        ("durability", "1s", Durability.ONE_SECOND),
        ("archive_retention", "10m", timedelta(minutes=10)),
        ("archive_retention", "PT24H", timedelta(days=1)),
        ("nats_url", "tls://a:1, nats://u:p@b", "tls://a:1, nats://u:p@b"),
    ],
)
def test_allowed_values(cwd: Path, home: Path, name: str, text: str, value: object) -> None:
    assert getattr(load(cwd, home, {name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nats_port", "-1"),
        ("nats_port", "65536"),
        ("nats_port", "1.0"),
        ("nats_port", "0x10"),
        ("nats_port", "٣"),
        ("nats_port", "tcp://10.0.0.1:4222"),
        ("http_addr", ":8080"),
        ("http_addr", "8080"),
        ("http_addr", "::1:8080"),
        ("http_addr", "http://a:1"),
        ("http_addr", "a:99999"),
        ("no_http", "2"),
        ("site", ""),
        ("site", "a.b"),
        ("site", "a\n"),
        ("archive_retention", "9m"),
        ("archive_retention", "forever"),
        ("nats_url", "http://a"),
        ("nats_url", "127.0.0.1:4222"),
        ("nats_url", "nats://a:99999"),
        ("nats_url", "nats://a,"),
        ("creds", ""),
        ("log_level", "INFO!"),
    ],
)
def test_refused_values(cwd: Path, home: Path, name: str, text: str) -> None:
    (problem,) = problems_of(cwd, home, {name: text})
    assert problem.path == f"flag {FIELDS[name].flag}"


def test_relative_paths_start_where_they_were_written(cwd: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "d.yaml"
    file.write_text("data_dir: data\n")
    config = load(cwd, home, {"config": str(file)}, DAGNATS_CREDS="~/me.creds")
    assert (config.data_dir, config.creds) == (tmp_path / "etc" / "data", home / "me.creds")
    assert load(cwd, home, {"data_dir": "data"}).data_dir == cwd / "data"


def test_clients_follow_the_port_of_the_embedded_server(cwd: Path, home: Path) -> None:
    (cwd / "dagnats.yaml").write_text("nats_port: 5000\n")
    config = load(cwd, home)
    assert config.nats_url == "nats://127.0.0.1:5000"
    assert config.sources["nats_url"] == config.sources["nats_port"]
    assert load(cwd, home, {"nats_url": "nats://h"}).nats_url == "nats://h"
    assert load(cwd, home, {"nats_port": 0}).nats_url == "nats://127.0.0.1:4222"


def test_a_program_has_its_own_defaults(cwd: Path, home: Path) -> None:
    config = load_config({}, {"HOME": str(home)}, cwd, {"http_addr": "127.0.0.1:8081"})
    assert config.http_addr.port == 8081
    assert config.sources["http_addr"] == "default"


def test_show_reads_back_to_the_same_and_hides_secrets(cwd: Path, home: Path) -> None:
    config = load(cwd, home, {"nats_url": "nats://me:hunter2@h:1", "http_addr": "[::1]:1", "no_http": True})
    shown = {row.name: row for row in show_config(config)}
    assert list(shown) == list(FIELDS)
    assert shown["nats_url"].value == "nats://me:***@h:1"
    assert shown["nats_url"].source == "flag --nats-url"
    assert shown["creds"].value == ""
    again = {name: row.value for name, row in shown.items() if row.value and name != "nats_url"}
    for name, value in again.items():
        assert getattr(load(cwd, home, again), name) == getattr(config, name), value


def test_a_refused_secret_is_hidden_too(cwd: Path, home: Path) -> None:
    (problem,) = problems_of(cwd, home, {"nats_url": "nats://me:hunter2@h:99999"})
    assert "hunter2" not in problem.message


@given(content=st.text(max_size=200))
def test_no_file_content_raises_anything_but_invalid(content: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("c")
    (folder / "dagnats.yaml").write_text(content, errors="surrogatepass")
    with suppress(Invalid):
        load(folder, folder)


def test_default_data_dirs() -> None:
    assert default_data_dir({"HOME": "/h"}, "linux") == Path("/h/.local/share/dagnats")
    assert default_data_dir({"HOME": "/h", "XDG_DATA_HOME": "/x"}, "linux") == Path("/x/dagnats")
    assert default_data_dir({"HOME": "/h", "XDG_DATA_HOME": "rel"}, "linux") == Path("/h/.local/share/dagnats")
    assert default_data_dir({"HOME": "/h"}, "darwin") == Path("/h/Library/Application Support/dagnats")
