"""LangChain's standard suites for chat models and embeddings, through its OpenAI classes at the gateway."""

from __future__ import annotations

import os
from typing import Any

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

GATEWAY = {"base_url": os.environ["GATEWAY_URL"] + "/v1", "api_key": "any", "max_retries": 0}


class TestChat(ChatModelIntegrationTests):
    chat_model_class = ChatOpenAI
    chat_model_params = {"model": "capable", "stream_usage": True, **GATEWAY}  # noqa: RUF012  # as the suite has it
    supports_json_mode = True
    model_override_value = "capable-too"


class TestChatByResponses(TestChat):
    """The same over `/v1/responses`."""

    chat_model_params = {"model": "capable", "use_responses_api": True, **GATEWAY}  # noqa: RUF012


class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        # Texts, not token ids: what every server but OpenAI's is to be sent, LangChain says.
        return {"model": "text-embedding-3-small", "check_embedding_ctx_length": False, **GATEWAY}
