"""vLLM's endpoint for samples, token ids in and token ids out: what is asked, and how an answer is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from winnow.engines.base import OnCompletion, ignore_completion
from winnow.engines.vllm_http import Fault, Json, Kind
from winnow.types import Completion, Finish, Prompt, Sampling

GENERATE = "/inference/v1/generate"
UNLABELLED = "default"
"""The version label of a server that nobody has given weights."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """Samples that are asked for, those that have come, by prompt and number, and the state of the weights."""

    prompts: Sequence[Prompt]
    seeds: Sequence[Sequence[int]]
    sampling: Sampling
    weights: int  # changes of the trainer's weights up to those that the server has
    on_completion: OnCompletion = ignore_completion
    found: dict[tuple[int, int], Completion] = field(default_factory=dict)

    @property
    def missing(self) -> list[tuple[int, int]]:
        every = [(p, g) for p, group in enumerate(self.seeds) for g in range(len(group))]
        return [sample for sample in every if sample not in self.found]

    @property
    def completions(self) -> list[list[Completion]]:
        return [[self.found[p, g] for g in range(len(group))] for p, group in enumerate(self.seeds)]


def request_of(prompt: Prompt, seed: int, how: Sampling, eos_ids: Sequence[int]) -> Json:
    """The request for one sample: by temperature alone, so that the sampled distribution is the trained one."""
    return {
        "token_ids": list(prompt.token_ids),
        "sampling_params": {
            "temperature": how.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "seed": seed,
            "max_tokens": how.max_tokens,
            "stop_token_ids": list(eos_ids),
            "ignore_eos": True,  # only `stop_token_ids` end a response
            "logprobs": 0,  # only those of the drawn tokens
            "detokenize": False,
        },
    }


def completion_of(answer: Json, label: str, eos_ids: Sequence[int]) -> Completion:
    """The sample in an answer, all of whose tokens were drawn from the weights with this version `label`.

    Raises:
        Fault: they were not, or it is no whole sample.
    """
    try:
        [choice] = answer["choices"]
        ids = tuple(int(i) for i in choice["token_ids"])
        content = choice["logprobs"]["content"]
        spans = [(str(s["version"]), int(s["start"]), int(s["end"])) for s in choice["weight_versions"]]
        logprobs = torch.tensor([float(at["logprob"]) for at in content])
        same_tokens = [int(at["token_id"]) for at in content] == list(ids)
        reason = choice["finish_reason"]
    except (LookupError, TypeError, ValueError) as error:
        raise Fault(Kind.REFUSED, f"answered {GENERATE} in another form than vLLM 0.32") from error
    require_versions(spans, len(ids), label)
    ended = bool(ids) and ids[-1] in eos_ids
    if reason not in ("stop", "length") or not ids or ended != (reason == "stop"):
        raise Fault(Kind.FOREIGN, f"ended a sample for another reason ({reason}) than its end or its length")
    if not same_tokens:
        raise Fault(Kind.REFUSED, "gave log-probabilities of other tokens than those that were drawn")
    return Completion(ids, logprobs, -logprobs, Finish.EOS if ended else Finish.LENGTH)


def require_versions(spans: Sequence[tuple[str, int, int]], tokens: int, label: str) -> None:
    """Check that the spans (version, start, end) cover all tokens, each with `label`.

    Raises:
        Fault: they do not.
    """
    versions = {version for version, _, _ in spans}
    if UNLABELLED in versions:
        raise Fault(Kind.RESTARTED, "was started anew: tokens come from weights that it was not given")
    if versions - {label}:
        others = ", ".join(sorted(versions - {label}))
        raise Fault(Kind.FOREIGN, f"drew tokens from the weights {others}, not from {label}; someone else has set them")
    ends = [0, *(end for _, _, end in spans)]
    if [start for _, start, _ in spans] != ends[:-1] or ends[-1] != tokens:
        raise Fault(Kind.FOREIGN, f"does not say of all {tokens} tokens of a sample which weights they come from")
