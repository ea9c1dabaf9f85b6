"""Servers as they come and go, and what makes their answers count: against an HTTP server that
speaks as vLLM does.

The real vLLM is in tests/vllm.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from purified_opsd.errors import ModelError, ServersLost
from purified_opsd.policy.loading import load_policy, load_tokenizer
from purified_opsd.policy.model import LoRA, Model
from purified_opsd.sampling import dispatcher, vllm_api
from purified_opsd.sampling.engines import VLLMServers
from purified_opsd.sampling.logprob_check import TOP, logprob_check_of
from purified_opsd.sampling.sampler import Sampling

SAMPLING = Sampling(max_new_tokens=3)


class Fake(ThreadingHTTPServer):
    """Writes the seed three times; knows what log-probs base and adapter should have, unless a test
    makes it lie.
    """

    daemon_threads = True

    def __init__(self, policy, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.policy, self.adapters, self.loads, self.drawn, self.limit = policy, {}, [], [], 500
        self.log_probs = logprob_check_of(policy).log_prob_V
        self.faults = []
        """What the next requests for completions are answered with."""
        self.bos, self.keys, self.broken = [], set(), 0
        self.refusal = None
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that has gone is what some tests are about; its traceback would turn up in the
        output of another.
        """
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def get(self, path):
        if path != "/v1/models":
            return 404, {"detail": "Not Found"}
        cards = [{"id": "base", "parent": None, "root": "base", "max_model_len": self.limit}]
        return 200, {
            "data": cards
            + [{"id": n, "parent": "base", "root": r} for n, r in self.adapters.items()]
        }

    def post(self, path, body):
        if path == "/v1/load_lora_adapter":
            if self.refusal:
                return 500, {"error": {"message": self.refusal}}
            self.loads.append(body["lora_name"])
            self.adapters[body["lora_name"]] = body["lora_path"]
            return 200, {}
        if path == "/v1/unload_lora_adapter":
            return (
                (200, {})
                if self.adapters.pop(body["lora_name"], None)
                else (404, {"error": {"message": "cannot be found"}})
            )
        if body["model"] not in ("base", *self.adapters):
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        return self.completion(body)

    def completion(self, body):
        values, tokens = self.log_probs.topk(TOP)
        top = {f"token_id:{t}": v for t, v in zip(tokens.tolist(), values.tolist(), strict=True)}
        choice = {
            "token_ids": [1],
            "logprobs": {"token_logprobs": [-1.0], "top_logprobs": [top]},
            "finish_reason": "length",
        }
        if body["max_tokens"] > 1:
            fault = self.faults.pop(0) if self.faults else 200
            if fault != 200:
                return fault, {"error": {"message": "as the test will have it"}}
            self.drawn.append(body["seed"])
            choice |= {"token_ids": [body["seed"]] * 3, "logprobs": {"token_logprobs": [-0.5] * 3}}
        return 200, {
            "model": body["model"],
            "choices": [choice | {"prompt_token_ids": self.bos + body["prompt"]}],
        }


class Handler(BaseHTTPRequestHandler):
    server: Fake

    def do_GET(self):
        self.answer(*self.server.get(self.path))

    def do_POST(self):
        self.answer(
            *self.server.post(
                self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))
            )
        )

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.server.keys.add(self.headers["authorization"])
        if self.server.broken:
            self.server.broken, content = 0, content[:20]
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def policy(tiny_model):
    model = Model(str(tiny_model), dtype="float32")
    return load_policy(model, LoRA(rank=4, alpha=8), load_tokenizer(model), 0, torch.device("cpu"))


@pytest.fixture
def server(policy):
    fake = Fake(policy)
    yield fake
    fake.stop()


@pytest.fixture(autouse=True)
def _no_time_to_lose(monkeypatch):
    monkeypatch.setattr(dispatcher, "FIRST_BACKOFF_S", 0.05)


def opened(policy, *servers, longest_prompt=20, **settings):
    engine = VLLMServers(tuple(server.url for server in servers), **settings)
    return engine.open(Model("m"), policy, SAMPLING, longest_prompt)


def move(policy):
    """Another adapter, far from the one before."""
    for name, parameter in policy.adapter_parameters().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)


def test_completions_come_in_the_order_of_their_prompts(policy, server):
    sampler = opened(policy, server)
    sampler.sync(0)
    completions = sampler.generate([[5], [6, 7], [8]], [31, 32, 33])
    assert [(c.ids, c.log_probs, c.finish_reason) for c in completions] == [
        ([seed] * 3, [-0.5] * 3, "length") for seed in (31, 32, 33)
    ]


def test_a_version_is_loaded_once_and_the_one_before_goes(policy, server):
    sampler = opened(policy, server)
    sampler.sync(0)
    sampler.sync(0)
    sampler.generate([[5]], [1])
    (first,) = server.adapters.items()
    assert json.loads((Path(first[1]) / "adapter_config.json").read_text())["r"] == 4
    move(policy)
    server.log_probs = logprob_check_of(policy).log_prob_V
    sampler.sync(1)
    (second,) = server.adapters.items()
    assert (second[0] != first[0], len(server.loads)) == (True, 2)
    assert (Path(first[1]).exists(), Path(second[1]).is_dir()) == (False, True)


def test_requests_go_where_the_least_is_in_flight(policy, server):
    other = Fake(policy)
    sampler = opened(policy, server, other)
    sampler.sync(0)
    assert [c.ids[0] for c in sampler.generate([[5]] * 10, range(10, 20))] == list(range(10, 20))
    assert (len(server.drawn), len(other.drawn)) == (5, 5)
    other.stop()


@pytest.mark.parametrize("fault", [503, 500, 404])
def test_a_failure_is_tried_again(policy, server, fault, caplog):
    sampler = opened(policy, server)
    sampler.sync(0)
    server.faults = [fault, fault]
    assert [c.ids[0] for c in sampler.generate([[5], [6]], [7, 8])] == [7, 8]
    assert f"No completion of {server.url}" in caplog.text
    assert "It is asked again in" in caplog.text


def test_attempts_are_bounded(policy, server):
    sampler = opened(policy, server, max_attempts=3)
    sampler.sync(0)
    server.faults = [503] * 99
    with pytest.raises(
        ServersLost,
        match=r"asked for 3 times \(sampler.max_attempts\) in vain, "
        rf"at last of {server.url}: status 503",
    ):
        sampler.generate([[5]], [1])
    assert len(server.faults) == 96


def test_what_came_before_servers_are_lost_is_given(policy, server):
    sampler, done = opened(policy, server, max_attempts=2), {}
    sampler.sync(0)
    server.faults = [200] + [503] * 99
    with pytest.raises(ServersLost):
        sampler.generate_missing([[5], [6], [7]], [31, 32, 33], [0, 2], done.update)
    ((index, completion),) = done.items()
    assert index in (0, 2)
    assert completion.ids == [31 + index] * 3


def test_a_server_that_is_lost_and_comes_back_is_looked_at_and_used_again(policy, server):
    other = Fake(policy)
    sampler = opened(policy, server, other)
    sampler.sync(0)
    other.stop()
    assert len(sampler.generate([[5]] * 6, range(6))) == 6
    assert len(server.drawn) == 6
    back = Fake(policy, other.server_port)  # restarted: it has no adapter
    sampler.slots[1].retry_at = 0.0
    assert len(sampler.generate([[5]] * 6, range(6, 12))) == 6
    assert (len(back.drawn), len(back.loads)) == (3, 1)
    back.stop()


def test_a_server_that_comes_back_with_other_weights_is_refused(policy, server):
    sampler = opened(policy, server)
    sampler.sync(0)
    server.faults = [503]
    server.log_probs = torch.randn(len(server.log_probs)).log_softmax(-1)
    with pytest.raises(ModelError, match="serves another base model, or this one in another dtype"):
        sampler.generate([[5]], [1])
    assert server.drawn == []


def test_nobody_there(policy, server):
    sampler = opened(policy, server, max_attempts=2)
    sampler.sync(0)
    server.stop()
    with pytest.raises(ServersLost, match=f"in vain, at last of {server.url}: ConnectError"):
        sampler.generate([[5]], [1])
    with pytest.raises(
        ServersLost,
        match=f"{server.url} does not answer: ConnectError.*Start it with `purified-opsd serve`",
    ):
        opened(policy, server)


def test_all_of_it_has_a_deadline(policy, server):
    sampler = opened(policy, server, total_seconds=1.0)
    sampler.sync(0)
    server.completion = lambda body: threading.Event().wait(3) or (200, {})
    with pytest.raises(ServersLost, match=r"not done after 1 s \(sampler.total_seconds\)"):
        sampler.generate([[5]], [1])


def test_one_completion_has_a_deadline(policy, server):
    sampler = opened(policy, server, read_seconds=0.2, max_attempts=1)
    sampler.sync(0)
    server.completion = lambda body: threading.Event().wait(2) or (200, {})
    with pytest.raises(ServersLost, match="ReadTimeout"):
        sampler.generate([[5]], [1])


def test_a_completion_that_was_broken_off_does_not_count(policy, server):
    sampler = opened(policy, server)
    sampler.sync(0)
    whole, cut = server.completion, []

    def once(body):
        status, answer = whole(body)
        if body["max_tokens"] > 1 and not cut:
            cut.append(answer["choices"][0]["token_ids"].pop())
            answer["choices"][0]["logprobs"]["token_logprobs"].pop()
        return status, answer

    server.completion = once
    assert sampler.generate([[5]], [9])[0].ids == [9, 9, 9]
    assert cut == [9]


def test_a_prompt_that_was_changed_on_the_way_is_refused(policy, server):
    sampler = opened(policy, server)
    sampler.sync(0)
    server.bos = [2]
    with pytest.raises(
        ModelError, match="after 2 prompt tokens; asked for was opsd-.* after 1. Something between"
    ):
        sampler.generate([[5]], [1])


def test_a_server_that_hangs_holds_nobody_up(policy, server, monkeypatch):
    """Six requests wait behind the one that finds out."""
    monkeypatch.setattr(vllm_api.send, "__defaults__", (None, 1.0))
    hung = Fake(policy)
    sampler = opened(policy, server, hung)
    hung.get = lambda path: threading.Event().wait(5) or (200, {})
    for slot in sampler.slots:
        slot.server.forget()
    start = time.monotonic()
    assert len(sampler.generate([[5]] * 12, range(12))) == 12
    sampler.sync(0)
    assert len(server.drawn) == 12
    assert time.monotonic() - start < 2.5
    hung.stop()


def test_a_server_that_fails_while_the_adapter_comes_gets_it_later(policy, server):
    sampler = opened(policy, server)
    working, server.get = (
        server.get,
        lambda path: (500, {"error": {"message": "EngineCore encountered an issue."}}),
    )
    sampler.sync(0)
    assert server.loads == []
    server.get = working
    assert len(sampler.generate([[5]], [1])) == 1
    assert len(server.loads) == 1


def test_a_server_whose_engine_dies_under_an_adapter_is_asked_again(policy, server):
    sampler = opened(policy, server)
    server.refusal = "EngineCore encountered an issue."
    sampler.sync(0)
    server.refusal = None
    assert len(sampler.generate([[5]], [1])) == 1


def no_ids(choice):
    del choice["token_ids"]


def no_log_probs(choice):
    choice["logprobs"] = None


def a_log_prob_missing(choice):
    choice["logprobs"] = {"token_logprobs": [-0.5, None, -0.5]}


def too_few_log_probs(choice):
    choice["logprobs"] = {"token_logprobs": [-0.5]}


def no_such_token(choice):
    choice["token_ids"] = [1, 2, 10**9]


@pytest.mark.parametrize(
    "change", [no_ids, no_log_probs, a_log_prob_missing, too_few_log_probs, no_such_token]
)
def test_answers_of_another_make_are_refused(policy, server, change):
    sampler = opened(policy, server)
    sampler.sync(0)
    whole = server.completion

    def changed(body):
        status, answer = whole(body)
        change(answer["choices"][0])
        return status, answer

    server.completion = changed
    with pytest.raises(
        ModelError, match=f"{server.url} does not answer as vLLM 0.32 does: .*pip install"
    ):
        sampler.generate([[5]], [1])


@pytest.mark.parametrize("answer", [{"choices": []}, "no object", None])
def test_log_probs_of_another_make_are_refused(policy, server, answer):
    server.completion = lambda body: (200, answer)
    with pytest.raises(ModelError, match=f"{server.url} does not answer as vLLM 0.32 does"):
        opened(policy, server)


def test_an_answer_that_breaks_off_is_asked_for_again(policy, server):
    sampler = opened(policy, server)
    sampler.sync(0)
    server.broken = 1
    assert sampler.generate([[5]], [7])[0].ids == [7] * 3


def test_the_key_is_sent_without_the_end_of_its_line_and_never_printed(policy, server, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "sekrit\n")
    opened(policy, server)
    assert server.keys == {"Bearer sekrit"}
    monkeypatch.setenv("VLLM_API_KEY", "sek\nrit")
    with pytest.raises(
        ModelError, match="The key in the environment variable VLLM_API_KEY has characters"
    ) as error:
        opened(policy, server)
    assert "rit" not in str(error.value).replace("characters", "")


def test_a_stale_adapter_is_refused(policy, server):
    sampler = opened(policy, server)
    sampler.sync(0)
    move(policy)  # and the server goes on with the log-probs of before
    with pytest.raises(
        ModelError,
        match="serves a stale adapter, or none at all: its log-probs .* nats from the trainer's",
    ):
        sampler.sync(1)


def test_an_adapter_whose_files_are_gone_is_loaded_anew(policy, server):
    sampler = opened(policy, server)
    sampler.sync(0)
    (name,) = server.adapters
    server.adapters[name] = "/gone"
    again = opened(policy, server)
    again.sync(0)
    assert Path(server.adapters[name]).is_dir()
    assert server.loads == [name, name]


def another_base(fake):
    fake.log_probs = torch.randn(len(fake.log_probs)).log_softmax(-1)


def another_dtype(fake):
    """0.025 nats off, as the miniature is in bfloat16."""
    fake.log_probs = fake.log_probs + 0.025


def another_vocabulary(fake):
    fake.log_probs = torch.randn(10_000).log_softmax(-1)


def no_vllm(fake):
    fake.get = lambda path: (404, {"detail": "Not Found"})


def wrong_key(fake):
    fake.get = lambda path: (401, {"error": "Unauthorized"})


def short(fake):
    fake.limit = 22


def low_rank(fake):
    fake.refusal = "LoRA rank 4 is greater than max_lora_rank 1."


def elsewhere(fake):
    fake.refusal = "Loading lora x failed: No adapter found for /dev/shm/x"


def without_lora(fake):
    fake.refusal = "Not Found"


BAD = {
    another_base: "serves another base model, or this one in another dtype",
    another_dtype: "serves another base model, or this one in another dtype.* and up to 0.01 can "
    "be rounding",
    another_vocabulary: "serves another base model, or this one in another dtype: .* are inf nats",
    no_vllm: "is no vLLM server: /v1/models gives .*404.*nothing behind the port",
    wrong_key: "does not take the key .status 401.*VLLM_API_KEY",
    short: "takes 22 tokens at most, and a prompt and its completion may have 23 here. Restart it "
    "with --max-model-len 23",
    low_rank: "LoRA rank 4 is greater than max_lora_rank 1.*Restart it with a --max-lora-rank of "
    "at least adapter.rank",
    elsewhere: "cannot read .*name a folder that the server and this process share, with "
    "--sampler.directory",
    without_lora: "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1; `purified-opsd serve` "
    "does both",
}


@pytest.mark.parametrize("wrong", list(BAD), ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_with_a_server_is_said_at_the_start(policy, server, wrong):
    wrong(server)
    with pytest.raises(ModelError, match=f"{server.url} .*{BAD[wrong]}"):
        opened(policy, server).sync(0)


@pytest.mark.parametrize(
    "urls", [(), ("127.0.0.1:8000",), ("http://127.0.0.1:port",), ("http://a:1", "http://a:1")]
)
def test_addresses_are_checked(urls):
    with pytest.raises(
        ValueError,
        match="sampler.urls needs the addresses of servers, each once, such as "
        "http://127.0.0.1:8000",
    ):
        VLLMServers(urls)


def test_deadlines_are_checked():
    with pytest.raises(
        ValueError,
        match="needs connect_seconds, read_seconds, total_seconds and max_attempts above 0",
    ):
        VLLMServers(("http://a:1",), max_attempts=0)
