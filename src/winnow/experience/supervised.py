"""Experience for SFT: the dataset's solutions instead of samples."""

from dataclasses import dataclass, replace

from winnow.data.problems import Problem
from winnow.data.prompts import PromptOrder, is_represented, render
from winnow.errors import ConfigError
from winnow.experience.batching import Experience
from winnow.experience.metrics import Clock
from winnow.experience.policy_gradient import on_response_tokens
from winnow.models.special_tokens import encode_text
from winnow.types import Row


@dataclass(frozen=True, slots=True)
class SupervisedExperience:
    """`count` problems per iteration with their solutions, each followed by the EOS token and cut at `max_tokens`."""

    order: PromptOrder
    count: int
    max_tokens: int

    def __call__(self, iteration: int, clock: Clock) -> Experience:
        with clock.of("generate"):
            items = [self._row(problem) for problem in self.order.problems_of(iteration, self.count)]
        lengths = [row.response_length for row in items]
        metrics = {"rollout/length/mean": sum(lengths) / len(lengths), "train/samples/kept_frac": 1.0}
        return Experience(items=items, zero_gradient=[False] * len(items), metrics=metrics)

    def _row(self, problem: Problem) -> Row:
        language_model = self.order.language_model
        assert problem.solution is not None, "ProblemSet.require_solutions was not called"
        prompt = render(problem, language_model.tokenizer, self.order.template)
        solution = encode_text(problem.solution, language_model.tokenizer)
        if not is_represented(solution, language_model.tokenizer):
            raise ConfigError(f"solution of {problem.key}: the tokenizer cannot represent {problem.solution[:60]!r}")
        response = (*solution.token_ids, language_model.end_id)[: self.max_tokens]
        sequence = Row(prompt.token_ids + response, len(prompt.token_ids))
        return replace(sequence, advantage=on_response_tokens(sequence, 1.0))
