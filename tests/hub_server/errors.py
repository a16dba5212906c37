"""The server's refusals, each with the status and `X-Error-Code` that the Hub sends.

    HubError                     400
    ├── UnauthorizedError        401
    ├── ForbiddenError           403
    ├── GatedRepoError           401 without a token, 403 with one
    ├── RepoNotFoundError        401 without a token, 404 with one
    ├── RevisionNotFoundError    404
    ├── EntryNotFoundError       404
    ├── ConflictError            409
    ├── StaleParentError         412
    └── RepoMovedError           307

The gateway turns whatever is raised into the answer.
"""

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response


class HubError(Exception):
    """A refusal: its message goes into the JSON body and into `X-Error-Message`."""

    status = 400
    code: str | None = None

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = dict(headers or {})
        self.extra: dict[str, object] = {}

    def response(self) -> Response:
        """Return the answer that the client's `hf_raise_for_status` understands."""
        headers = {"X-Error-Message": self.message, **self.headers}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return JSONResponse({"error": self.message, **self.extra}, self.status, headers)


class UnauthorizedError(HubError):
    """The token is missing where one is needed, unknown or expired."""

    status = 401


class ForbiddenError(HubError):
    """The token is good but may not do this."""

    status = 403


class GatedRepoError(HubError):
    """The files of a gated repo were asked for by somebody without access."""

    code = "GatedRepo"

    def __init__(self, repo_id: str, *, anonymous: bool) -> None:
        super().__init__(f"Access to model {repo_id} is restricted.")
        self.status = 401 if anonymous else 403


class RepoNotFoundError(HubError):
    """The repo does not exist, or is private; the Hub does not say which."""

    code = "RepoNotFound"

    def __init__(self, *, anonymous: bool) -> None:
        super().__init__("Invalid username or password." if anonymous else "Repository not found")
        self.status = 401 if anonymous else 404


class RevisionNotFoundError(HubError):
    """No branch, tag, pull request or commit has this name."""

    status = 404
    code = "RevisionNotFound"

    def __init__(self, revision: str) -> None:
        super().__init__(f"Invalid rev id: {revision}")


class EntryNotFoundError(HubError):
    """The revision has no such file or folder."""

    status = 404
    code = "EntryNotFound"


class ConflictError(HubError):
    """The repo, branch or tag is there already."""

    status = 409


class StaleParentError(HubError):
    """`parentCommit` is no longer the head of the branch."""

    status = 412

    def __init__(self) -> None:
        super().__init__("A commit has happened since. Please refresh and try again.")


class RepoMovedError(HubError):
    """The repo has a new name: the request is redirected to it, method and body kept."""

    status = 307

    def __init__(self, old_id: str, new_id: str) -> None:
        super().__init__(f"Moved to {new_id}")
        self.old_id = old_id
        self.new_id = new_id
