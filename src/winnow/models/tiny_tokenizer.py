r"""The embedded model's tokenizer: one token a character, and `\boxed{` as one."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from winnow.data.arithmetic import CHARACTERS

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
BOXED = r"\boxed{"
TOKENS = (PAD, EOS, BOXED, *CHARACTERS, UNKNOWN)
"""In the order of their ids."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN)
