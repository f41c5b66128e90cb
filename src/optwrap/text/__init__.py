"""Language models: text as tokens, a decoder, and the task of the next token.

Imports errors and what lies below.
"""

from optwrap.text.data import TextData, stdlib, text_folder
from optwrap.text.generate import generate
from optwrap.text.gpt import GPT
from optwrap.text.task import LanguageModelTask

__all__ = ["GPT", "LanguageModelTask", "TextData", "generate", "stdlib", "text_folder"]
