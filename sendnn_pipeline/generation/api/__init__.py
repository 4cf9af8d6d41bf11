"""What can be asked of the engine: completions and chats, as OpenAI's and vLLM's clients ask them."""
