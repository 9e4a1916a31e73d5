"""One engine step as the hardware sees it: what is computed and read, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


class StepLoad(NamedTuple):
    """What one step computes and reads; a request that computes tokens c+1 … c+m attends c+1 … c+m tokens with them.

    A named tuple, not a dataclass: one is made for every step of a run, at a third of the cost.

    Attributes:
        tokens: Tokens computed, prompt and output together.
        requests: Requests in the batch.
        decodes: Of those, the ones that compute one token after their first output token; `tokens` − `decodes` is
            the prefill (and recomputation) in the batch.
        attended: Attention work: Σ over computed tokens of the tokens each attends, itself included. [tokens²]
        read: KV tokens read: Σ over requests of the context at the end of the step. [tokens]
        largest: The attention work of the one prompt in the batch that has most of it; 0 with none. [tokens²]
    """

    tokens: int
    requests: int
    decodes: int
    attended: int
    read: int
    largest: int = 0


class StepTime(Protocol):
    """How long a step takes: pure, a positive number for every load with a token in it."""

    def __call__(self, load: StepLoad, /) -> float:
        """Duration of one step. [s]"""
        ...


@dataclass(frozen=True, slots=True)
class LinearStepTime:
    """A step time linear in the load: enough for tests, and for a fit to a small server.

    Attributes:
        step: Paid by every step. [s]
        token: Paid for each token computed. [s]
        attended: Paid for each token attended by each. [s]
        read: Paid for each KV token read. [s]
        request: Paid for each request in the batch. [s]
        largest: Paid for each token attended by each of the largest prompt in the step, on top of `attended`: on a CPU
            a prompt's attention runs on one core, and the others wait for the last. [s]
        prompt: Paid for each request in the batch that computes its prompt: on a small server, what taking in and
            answering a call costs the processor that also computes. [s]
    """

    step: float
    token: float = 0.0
    attended: float = 0.0
    read: float = 0.0
    request: float = 0.0
    prompt: float = 0.0
    largest: float = 0.0

    def __call__(self, load: StepLoad, /) -> float:
        """Duration of one step. [s]"""
        return (
            self.step
            + self.token * load.tokens
            + self.attended * load.attended
            + self.read * load.read
            + self.request * load.requests
            + self.prompt * (load.requests - load.decodes)
            + self.largest * load.largest
        )
