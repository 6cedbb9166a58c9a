r"""The embedded model's tokenizer: one token a character, and `\boxed{` as one.

It is a byte-level BPE without merges, in which `\boxed{` is an added token: the form that survives `AutoTokenizer`, which
rebuilds the tokenizer of every Qwen2 model as Qwen2's own.
"""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from winnow.data.arithmetic import CHARACTERS

PAD, EOS, UNUSED = "<pad>", "<eos>", "<unused>"
BOXED = r"\boxed{"
TOKENS = (PAD, EOS, BOXED, *CHARACTERS, UNUSED)
"""In the order of their ids."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(TOKENS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(BOXED, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNUSED)
