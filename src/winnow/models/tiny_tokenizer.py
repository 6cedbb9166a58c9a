r"""The embedded model's tokenizer: one token a character, and `\boxed{` as one."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from winnow.data.arithmetic import CHARACTERS

SPECIAL = ("<pad>", "<eos>", "<unk>")
BOXED = r"\boxed{"


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Ids in this order: the special tokens, `\\boxed{`, then `CHARACTERS`."""
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, BOXED, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\\boxed\{|."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
