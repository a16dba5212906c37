"""Who is asking: access tokens, and what each may read and write."""

from dataclasses import dataclass
from typing import Literal

from .errors import ForbiddenError, GatedRepoError, RepoNotFoundError, UnauthorizedError
from .repos import Repo

WRITE_TOKEN = "hf_write"
READ_TOKEN = "hf_read"
STRANGER_TOKEN = "hf_stranger"
EXPIRED_TOKEN = "hf_expired"


@dataclass(frozen=True)
class Account:
    """The user behind a token.

    Attributes:
        name: the user's name, also a namespace of theirs.
        role: what the token allows; a `read` token sees private repos but writes nothing.
        namespaces: organisations the user belongs to; None means every namespace there is.
        expired: whether the token is refused with 401.
    """

    name: str
    role: Literal["read", "write"] = "write"
    namespaces: frozenset[str] | None = frozenset()
    expired: bool = False

    def owns(self, namespace: str) -> bool:
        """Return whether repos of the namespace are this user's."""
        if self.namespaces is None:
            return True
        return namespace == self.name or namespace in self.namespaces


class Accounts:
    """The tokens that the server knows, and its access rules."""

    def __init__(self) -> None:
        self.tokens = {
            WRITE_TOKEN: Account("tester", "write", None),
            READ_TOKEN: Account("tester", "read", None),
            STRANGER_TOKEN: Account("stranger"),
            EXPIRED_TOKEN: Account("tester", expired=True),
        }

    def identify(self, authorization: str | None) -> Account | None:
        """Return the account of an `Authorization` header, None without a header.

        Raises:
            UnauthorizedError: if the token is unknown or expired.
        """
        if authorization is None:
            return None
        account = self.tokens.get(authorization.removeprefix("Bearer "))
        if account is None:
            raise UnauthorizedError("Invalid credentials in Authorization header")
        if account.expired:
            raise UnauthorizedError(f'User Access Token "{account.name}" is expired')
        return account


def sees(account: Account | None, repo: Repo) -> bool:
    """Return whether the repo exists as far as this account can tell."""
    return not repo.private or (account is not None and account.owns(repo.namespace))


def check_sees(account: Account | None, repo: Repo) -> None:
    """Refuse as the Hub does for a repo that is not there."""
    if not sees(account, repo):
        raise RepoNotFoundError(anonymous=account is None)


def check_downloads(account: Account | None, repo: Repo) -> None:
    """Refuse the files of a gated repo to everybody but its owners and those let in."""
    check_sees(account, repo)
    if not repo.gated:
        return
    if account is None or not (account.owns(repo.namespace) or account.name in repo.admitted):
        raise GatedRepoError(repo.id, anonymous=account is None)


def check_role(account: Account | None) -> Account:
    """Refuse everything but a token that may write somewhere."""
    if account is None:
        raise UnauthorizedError("Invalid username or password.")
    if account.role != "write":
        raise ForbiddenError("This token is read-only: a token with the write role is needed.")
    return account


def check_writes(account: Account | None, namespace: str) -> Account:
    """Refuse everything but a token that may write in the namespace."""
    account = check_role(account)
    if not account.owns(namespace):
        raise ForbiddenError(
            f'You don\'t have the rights to write under the namespace "{namespace}".'
        )
    return account
