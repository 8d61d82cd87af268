"""Objects in an S3 bucket: reading, writing on a condition, and what its failures are called.

Endpoint and credentials come from the environment alone (`AWS_*`), and no error names them. Everything here gives up
within a minute.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

from resight.errors import CollectionError, UsageError
from resight.extras import needed

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS, RETRY_SECONDS = 5, 30, 3, 20
_ADDRESS = re.compile(r"s3:/{1,2}([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/([^/].*?)/*")
_UNREACHABLE = "the object store cannot be reached: check the network and AWS_ENDPOINT_URL"
_REFUSED = "the object store refuses these credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their rights"
_REASONS = {
    "NoSuchBucket": "there is no such bucket: make it first, or check its name and AWS_ENDPOINT_URL",
    **dict.fromkeys(
        ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "403"), _REFUSED
    ),
    **dict.fromkeys(("PreconditionFailed", "ConditionalRequestConflict"), "another process wrote it at the same time"),
    **dict.fromkeys(("error sending request", "timed out", "operation timed out"), _UNREACHABLE),
    **dict.fromkeys(("SlowDown", "503"), "the object store asks to slow down: try again later"),
}
CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


@dataclass(frozen=True)
class Stored:
    """An object as it was read: its `content`, its `etag`, and its `age` in seconds by the clock of the store."""

    content: bytes
    etag: str
    age: float


@dataclass(frozen=True)
class Bucket:
    """The objects of `name` below `prefix`; `uri` for people. Keys are relative to the prefix."""

    name: str
    prefix: str

    @property
    def uri(self) -> str:
        """Its address."""
        return f"s3://{self.name}/{self.prefix}"

    @cached_property
    def _client(self) -> Any:
        """A client of this thread's process; raises `UsageError` without credentials."""
        with needed(f"collection {self.uri}"):
            import boto3
            from botocore.config import Config
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        )
        with _session_lock:
            return boto3.session.Session().client("s3", config=config, **_connection(self.uri))

    def get(self, key: str) -> Stored | None:
        """An object, None where there is none."""
        with s3_faults("read", f"{self.uri}/{key}"):
            try:
                found = self._client.get_object(Bucket=self.name, Key=self._key(key))
            except self._client.exceptions.NoSuchKey:
                return None
            now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
            modified: datetime = found["LastModified"]
            return Stored(found["Body"].read(), found["ETag"], (now - modified).total_seconds())

    def exists(self, key: str) -> bool:
        """Whether there is an object."""
        return self.get(key) is not None

    def put(self, key: str, content: bytes, *, only_new: bool = False, instead_of: str | None = None) -> str | None:
        """Write an object, and give its etag; None where the condition does not hold: `only_new`, that there was none,
        or `instead_of`, that it had this etag.
        """
        condition = {"IfNoneMatch": "*"} if only_new else {} if instead_of is None else {"IfMatch": instead_of}
        with s3_faults("write", f"{self.uri}/{key}"):
            try:
                written = self._client.put_object(Bucket=self.name, Key=self._key(key), Body=content, **condition)
            except self._client.exceptions.ClientError as error:
                if condition and error.response["Error"]["Code"] in (*CONFLICTS, "NoSuchKey", "404"):
                    return None
                raise
            return str(written["ETag"])

    def upload(self, key: str, file: str) -> None:
        """Write a file, in parts where it is large."""
        with s3_faults("write", f"{self.uri}/{key}"):
            self._client.upload_file(file, self.name, self._key(key))

    def download(self, key: str, file: str) -> None:
        """Read an object into a file."""
        with s3_faults("read", f"{self.uri}/{key}"):
            self._client.download_file(self.name, self._key(key), file)

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        with s3_faults("delete", f"{self.uri}/{key}"):
            self._client.delete_object(Bucket=self.name, Key=self._key(key))

    def sizes(self, below: str = "") -> Iterator[tuple[str, int]]:
        """Keys and bytes of the objects whose key begins so."""
        with s3_faults("list", self.uri):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self._key(below))
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(f"{self.prefix}/"), int(found["Size"])

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}"


_session_lock = threading.Lock()


def bucket_of(text: str) -> Bucket:
    """What an address `s3://bucket/name.resight` names. Raises `UsageError` when it is none."""
    found = _ADDRESS.fullmatch(text)
    if not found:
        raise UsageError(f"{text} is no address of a collection: give s3://BUCKET/NAME.resight, or a local folder")
    return Bucket(found[1], found[2])


def lance_options(uri: str) -> dict[str, str]:
    """How Lance reaches the store that `uri` lies in."""
    connection = _connection(uri)
    options = {
        "aws_access_key_id": connection["aws_access_key_id"],
        "aws_secret_access_key": connection["aws_secret_access_key"],
        "aws_region": connection["region_name"],
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "timeout": f"{READ_SECONDS}s",
        "client_max_retries": str(ATTEMPTS),
        "client_retry_timeout": str(RETRY_SECONDS),
    }
    if token := connection["aws_session_token"]:
        options["aws_session_token"] = token
    if endpoint := connection["endpoint_url"]:
        options |= {"aws_endpoint": endpoint, "allow_http": str(endpoint.startswith("http://")).lower()}
    return options


def _connection(uri: str) -> dict[str, Any]:
    """Endpoint and credentials. Raises `UsageError` where the environment has none."""
    env = os.environ
    missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not env.get(name)]
    if missing:
        raise UsageError(f"{uri} lies in an object store, and {missing[0]} is not set: put it into the environment")
    return {
        "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "aws_session_token": env.get("AWS_SESSION_TOKEN"),
        "region_name": env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1",
        "endpoint_url": env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or env.get("AWS_ENDPOINT"),
    }


@contextmanager
def s3_faults(action: str, what: str) -> Iterator[None]:
    """Turn what the client raises into a `CollectionError` of one sentence, without addresses and keys."""
    with needed("a collection in a bucket"):
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        raise CollectionError(f"cannot {action} {what}: {reason(code)}") from None
    except Boto3Error as error:  # of uploads and downloads, around what the client raised
        raise CollectionError(f"cannot {action} {what}: {reason(str(error))}") from None
    except (BotoCoreError, ValueError):  # ValueError: an endpoint that is no address
        raise CollectionError(f"cannot {action} {what}: {_UNREACHABLE}") from None


def reason(text: str) -> str:
    """Why, and what to do, for a code of the store or the text of an error that holds one."""
    found = next((sentence for code, sentence in _REASONS.items() if re.search(rf"\b{code}\b", text)), None)
    if found is not None:
        return found
    code = re.fullmatch(r"[A-Za-z0-9]+", text)
    return f"the object store answers {code[0]}" if code else "the object store does not answer as it should: try again"
