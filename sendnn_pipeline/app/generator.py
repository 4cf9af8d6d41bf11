"""The generation engine from Python."""

from collections.abc import Mapping, Sequence
from typing import Any

from sendnn_pipeline.app.door import EngineDoor


class Generator(EngineDoor):
    """Texts that go on.

    ```python
    with Generator("model=smollm2", "backend=inductor") as generator:
        answer = generator.chat([{"role": "user", "content": "What is the capital of France?"}], temperature=0)
    ```
    """

    route = "/v1/completions"

    def generate(self, prompts: str | Sequence[str], **options: Any) -> list[str]:
        """Return the text behind each prompt; with ``n``, all of the first prompt's come first.

        Args:
            prompts: one or several.
            options: fields of the body of ``/v1/completions``, such as ``max_tokens`` or ``seed``.

        Raises:
            RequestError: a prompt is too long, or an option is out of range.
            TypeError: there is no such option.
        """
        inputs = prompts if isinstance(prompts, str) else list(prompts)
        return self.ask(lambda engine: engine.generate(inputs, **options))

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """Return the model's answer to a conversation.

        Args:
            messages: of ``role`` and ``content`` each.
            options: fields of the body of ``/v1/chat/completions``.

        Raises:
            RequestError: the messages are too long, or refused by the model's template.
            TypeError: there is no such option.
        """
        listed = list(messages)
        return self.ask(lambda engine: engine.chat(listed, **options))
