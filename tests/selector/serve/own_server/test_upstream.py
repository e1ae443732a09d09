"""The upstream over an engine's own server: what is answered, and what goes wrong."""

import asyncio
import re
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from calibration.engine.streams import Finish
from selector.serve.upstream import Ask, Failed, Piece, Refused, Unavailable
from tests.selector.serve.own_server.odd_upstream import ask_once, pieces, started, until


class TestAnswers:
    def test_text_comes_as_it_is_told_and_the_counts_at_the_end(self, tmp_path: Path) -> None:
        assert ask_once(tmp_path, "well") == [
            Piece(text="one "),
            Piece(text="two"),
            Piece(finish=Finish.LENGTH, prompt_tokens=3, completion_tokens=2),
        ]

    def test_counts_and_finish_may_come_with_the_last_text(self, tmp_path: Path) -> None:
        assert ask_once(tmp_path, "all in the last") == [
            Piece(text="one"),
            Piece(text=" two"),
            Piece(finish=Finish.STOP, prompt_tokens=3, completion_tokens=4),
        ]

    def test_an_event_may_come_in_parts(self, tmp_path: Path) -> None:
        assert ask_once(tmp_path, "split")[0] == Piece(text="né 🙂")

    def test_token_ids_are_a_prompt(self, tmp_path: Path) -> None:
        assert ask_once(tmp_path, (5, 6, 7))[-1].completion_tokens == 2

    def test_the_environments_proxy_is_not_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        assert len(ask_once(tmp_path, "well")) == 3

    def test_each_request_has_a_connection_of_its_own(self, tmp_path: Path) -> None:
        ask_once(tmp_path, "well")
        assert "connection: close" in (tmp_path / "server.log").read_text()

    @pytest.mark.parametrize(
        ("prompt", "kind", "message"),
        [
            ("hangs up", Unavailable, "odd ended while it answered: .*incomplete chunked read.*"),
            ("ends early", Failed, "odd ended an answer without an end of it"),
            ("aborts", Failed, "odd ended an answer with 'abort'"),
            ("malformed", Failed, re.escape("odd sent what is no part of an answer: '{\"choices\": ['")),
            ("of another kind", Failed, re.escape('odd sent what is no part of an answer: \'{"object": "what?"}\'')),
            ("no stream", Failed, "odd sent what is no stream of events: Expected response with content type .*"),
            ("breaks", Failed, "odd answered with status 500: the kernel says no"),
            ("breaks without json", Failed, "odd answered with status 500: <!DOCTYPE HTML>.*"),
            ("is busy", Unavailable, "odd takes no requests now: loading model"),
            ("refuses", Refused, r"request \(300 tokens\) exceeds the context \(256 tokens\)"),
            ("refuses barely", Refused, "temperature must be a number"),
            ("refuses late", Refused, "too long"),
            ("fails late", Failed, "odd failed: out of memory"),
        ],
    )
    def test_what_goes_wrong(self, prompt: str, kind: type[Exception], message: str, tmp_path: Path) -> None:
        """And the next request is answered."""

        async def scenario() -> None:
            code = "context_length_exceeded" if prompt == "refuses" else None
            async with started(tmp_path) as serving:
                with pytest.raises(kind, match=rf"(?s)^{message}$") as raised:
                    await pieces(serving, prompt)
                if isinstance(raised.value, Refused):
                    assert (raised.value.status, raised.value.code) == (400, code)
                assert serving.ready and len(await pieces(serving, "well")) == 3

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("prompt", "ask", "message", "parameter"),
        [
            ("well", {"temperature": 1.0, "seed": 1}, "odd has no `seed` as it is served here; leave it out", "seed"),
            ("well", {"logprobs": 1}, "odd has no `logprobs` as it is served here; leave it out", "logprobs"),
            (
                (1,) * 60,
                {"max_tokens": 5},
                "this model's context holds 64 tokens; asked are 60 of the prompt and 5 of the answer",
                "prompt",
            ),
            (
                (1,) * 64,
                {},
                "this model's context holds 64 tokens; asked are 64 of the prompt and 1 of the answer",
                "prompt",
            ),
            ((5, 100), {}, "token 100 is not in this model's vocabulary, which has 100 tokens", "prompt"),
            ((5, -1), {}, "token -1 is not in this model's vocabulary, which has 100 tokens", "prompt"),
        ],
    )
    def test_what_is_refused_unasked(
        self, prompt: Any, ask: dict[str, Any], message: str, parameter: str, tmp_path: Path
    ) -> None:
        with pytest.raises(Refused) as raised:
            ask_once(tmp_path, prompt, **ask)
        assert (raised.value.message, raised.value.status, raised.value.parameter) == (message, 400, parameter)

    def test_the_limit_of_a_text_is_counted_where_the_server_has_another(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path, count_path="/count") as serving:
                assert (await pieces(serving, "tells its limit"))[0].text == str(64 - len("tells its limit"))
                assert (await pieces(serving, "tells its limit", max_tokens=3))[0].text == "3"
                assert (await pieces(serving, (5, 6)))[0].text == "one "
                with pytest.raises(
                    Refused, match="^this model's context holds 64 tokens; asked are 64 of the prompt and 1"
                ):
                    await pieces(serving, "x" * 64)
                with pytest.raises(Refused, match="exceeds the context"):
                    await pieces(serving, "refuses")
                with pytest.raises(Failed, match="^odd sent what is no count of tokens: '{\"tokens\": 3}'$"):
                    await pieces(serving, "malformed")
                with pytest.raises(Unavailable, match="^odd ended while it counted: "):
                    await pieces(serving, "dies")
            async with started(tmp_path) as serving:
                assert (await pieces(serving, "tells its limit"))[0].text == "None"

        asyncio.run(scenario())

    def test_a_chat_with_a_model_that_has_no_template(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path, takes_chats=False) as serving:
                with pytest.raises(Refused, match="^this model has no chat template; ask /v1/completions") as raised:
                    async with aclosing(serving.answer(Ask(messages=({"role": "user", "content": "hi"},)))) as answer:
                        await anext(answer)
                assert (raised.value.status, raised.value.parameter) == (400, "messages")

        asyncio.run(scenario())

    def test_closing_the_answer_closes_the_connection(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                async with aclosing(serving.answer(Ask(prompt="lasts"))) as answer:
                    assert (await anext(answer)).text == "0 "
                left = await asyncio.to_thread(
                    until, lambda: "the client left" in (tmp_path / "server.log").read_text()
                )
                assert left and serving.ready

        asyncio.run(scenario())

    def test_a_cancelled_task_closes_the_connection(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                task = asyncio.create_task(pieces(serving, "lasts"))
                await asyncio.sleep(0.3)
                task.cancel()
                await asyncio.wait({task})
                assert task.cancelled()
                assert await asyncio.to_thread(
                    until, lambda: "the client left" in (tmp_path / "server.log").read_text()
                )

        asyncio.run(scenario())

    def test_many_at_once(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with started(tmp_path) as serving:
                answers = await asyncio.gather(*[pieces(serving, "lasts", max_tokens=10) for _ in range(40)])
                texts = {"".join(piece.text for piece in answer) for answer in answers}
                assert texts == {"".join(f"{number} " for number in range(10))}

        asyncio.run(scenario())
