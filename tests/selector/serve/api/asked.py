"""What the API is asked, and what the scripted engine says to it."""

from openai.types.chat import ChatCompletionUserMessageParam

ANSWER = " The capital of France is Paris."

USER = [ChatCompletionUserMessageParam(role="user", content="What is the capital of France?")]
