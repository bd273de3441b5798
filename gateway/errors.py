"""What can go wrong with a call, each with its HTTP status, OpenAI type and code, and a way out.

    GatewayError
    ├── BadRequest            400  invalid_request_error   the caller must change the request
    │   ├── ContentBlocked    400  code content_filter     a guardrail refused it
    │   ├── NotFound          404  code model_not_found    or code not_found
    │   ├── Conflict          409  code conflict           there is one of that name
    │   └── TooLarge          413  code request_too_large
    ├── Unauthenticated       401  authentication_error    code invalid_api_key
    ├── Forbidden             403  permission_error
    ├── LimitReached          429  rate_limit_error  code rate_limit_exceeded, with Retry-After
    │   └── TargetsFull       429  every target that may serve the call is at a limit of its own
    ├── BudgetSpent           429  insufficient_quota  with Retry-After
    ├── LimitsUnavailable     503  the counts are away and the configuration says `refuse`
    ├── Timeout               408  the caller did not send its request in time
    ├── Overloaded            503  this gateway drains, or has no room
    │   └── QueueFull         503  a call would wait too long for every server that may serve it, with Retry-After
    ├── NotCached             504  code not_cached         there is no kept answer, and the caller wants no other
    └── UpstreamError         the provider failed; what it said is kept where it is safe to show
        ├── UpstreamRefused   the provider's own 4xx about this request, passed on with its status
        ├── UpstreamLimited   429  with Retry-After as given
        ├── UpstreamFailed    502  no connection, 5xx, or an answer that can't be read
        │   └── CredentialRefused  502  the provider does not take the gateway's key: another target may
        └── UpstreamTimeout   504  which of the timeouts ran out
    StageFailed               503  features, retrieval or a guardrail is away and the model says `refuse`

Foreign errors are mapped once, at the border where they arise. Messages are for the caller: they name the
stage, the field and what to do, never a path, a host or a secret.
"""

from __future__ import annotations

from typing import Any


class GatewayError(Exception):
    """A call that ends with an error in OpenAI's shape.

    `spent`: the gateway has tried again, or knows better than to, so the client should not (`x-should-retry: false`).
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    quotes = False
    """Whether the message is a provider's own, which may repeat the prompt."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.spent = False
        if code is not None:
            self.code = code

    def recorded(self, content: bool) -> str | None:
        """The message, as a call's record may have it; `content`: prompts are recorded too."""
        return self.message if content or not self.quotes else None

    def body(self) -> dict[str, Any]:
        """The error in OpenAI's wire shape: https://platform.openai.com/docs/guides/error-codes."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"


class ContentBlocked(BadRequest):
    code = "content_filter"


class NotFound(BadRequest):
    status = 404
    code = "not_found"


class Conflict(BadRequest):
    status = 409
    code = "conflict"


class TooLarge(BadRequest):
    status = 413
    code = "request_too_large"


class HeadersTooLarge(BadRequest):
    status = 431
    code = "request_header_fields_too_large"


class Unauthenticated(GatewayError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(GatewayError):
    status = 403
    type = "permission_error"
    code = "forbidden"


class LimitReached(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class TargetsFull(LimitReached):
    pass


class BudgetSpent(GatewayError):
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class LimitsUnavailable(GatewayError):
    status = 503
    code = "limits_unavailable"


class Timeout(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class Overloaded(GatewayError):
    status = 503
    type = "server_error"
    code = "overloaded"


class QueueFull(Overloaded):
    pass


class NotCached(GatewayError):
    """`Cache-Control: only-if-cached` without a kept answer: RFC 9111, section 5.2.1.7."""

    status = 504
    type = "invalid_request_error"
    code = "not_cached"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="cache-control")
        self.spent = True  # the same call again is answered no better


class StageFailed(GatewayError):
    """A side service (features, retrieval, guardrails) is away and this model's `on_failure` is `refuse`."""

    status = 503
    type = "server_error"
    code = "stage_unavailable"


class UpstreamError(GatewayError):
    """The provider did not answer as asked.

    `retryable`: another attempt, here or at another target, may help.
    """

    status = 502
    type = "server_error"
    code: str | None = "upstream_error"
    retryable = True


class UpstreamRefused(UpstreamError):
    """The provider's own refusal of this request, with its status, type, param and code."""

    retryable = False
    quotes = True

    def __init__(self, message: str, *, status: int, type: str, param: str | None, code: str | None) -> None:
        super().__init__(message, param=param)
        self.code = code  # OpenAI's own is often null, and stays so
        self.status = status
        self.type = type


class UpstreamLimited(UpstreamError):
    status = 429
    quotes = True
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class UpstreamFailed(UpstreamError):
    pass


class CredentialRefused(UpstreamFailed):
    """The provider refused the gateway's own key or address; what it said of them stays here."""

    retryable = False
    code = "upstream_refused"


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"
