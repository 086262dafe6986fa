"""What happened, as the API server's audit log tells it: the truth that our daemons are held to."""

import collections
import dataclasses
import datetime
import json


@dataclasses.dataclass
class Request:
    received: float  # Unix seconds, to the microsecond
    answered: float
    user: str  # empty: let in by nobody (401)
    verb: str  # create, get, list, watch, patch, update, delete, deletecollection
    resource: str  # with the subresource: "snapshotpolicies/status"
    namespace: str
    name: str  # empty for lists, and for watches of more than one object
    code: int
    uri: str
    body: dict | None  # of the request, where the audit policy keeps it
    answer: dict | None


@dataclasses.dataclass
class SnapshotLife:
    """One VolumeSnapshot object, by its UID. Times are Unix seconds; None: it did not happen."""
    namespace: str
    name: str
    uid: str
    object: dict  # as created
    created_by: str
    posted: float  # when the create was received
    ready: float | None = None  # when the write that made it ready was received
    deleted: float | None = None  # when the first successful delete was received
    deleted_by: str | None = None

    @property
    def claim(self):
        return self.object["spec"]["source"].get("persistentVolumeClaimName")


class AuditLog:
    """The requests of a log file from `offset` on, as far as they are complete. A request is on disk when it is answered."""

    def __init__(self, path, offset=0):
        self.requests = []
        with open(path, "rb") as f:
            f.seek(offset)
            for line in f:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                event = json.loads(line)
                # A watch is counted when it begins, everything else when it is answered.
                is_watch = event["verb"] == "watch"
                if event["stage"] == ("ResponseStarted" if is_watch else "ResponseComplete") and "objectRef" in event:
                    self.requests.append(_request(event))
        self.offset = offset  # where the next AuditLog would go on
        self.requests.sort(key=lambda r: r.received)

    def creates(self, resource="volumesnapshots"):
        return [r for r in self.requests if r.verb == "create" and r.resource == resource]

    def deletes(self, resource="volumesnapshots"):
        return [r for r in self.requests if r.verb == "delete" and r.resource == resource]

    def counts(self, user=""):
        """How many requests: {(user, verb, resource): n}, of users whose name contains `user`."""
        return collections.Counter((r.user, r.verb, r.resource) for r in self.requests if user in r.user)

    def snapshots(self, namespace=None):
        """The lives of all VolumeSnapshots whose creation this log holds."""
        lives = {}
        newest = {}  # (namespace, name) -> UID; deletes and status writes name no UID
        # A request whose client was killed meanwhile is answered 504, and may have been carried out all the same: then a
        # later answer shows what it wrote.
        unsure = collections.defaultdict(list)
        for r in sorted(self.requests, key=lambda r: r.answered):
            if not r.resource.startswith("volumesnapshots") or r.resource.startswith("volumesnapshotc"):
                continue
            if namespace and r.namespace != namespace:
                continue
            if r.code == 504:
                unsure[r.namespace, r.name].append(r)
            if r.code >= 300:
                continue
            if r.verb == "create":
                meta = r.answer["metadata"]
                newest[r.namespace, r.name] = meta["uid"]
                lives[meta["uid"]] = SnapshotLife(r.namespace, meta["name"], meta["uid"], r.answer, r.user, r.received)
            life = lives.get(newest.get((r.namespace, r.name)))
            if life is None:
                continue
            earlier = unsure[r.namespace, r.name]
            # A delete may be answered with a Status, whose field of this name is a word.
            if life.ready is None and r.verb != "delete" and _is_ready(r.answer):
                life.ready = next((u for u in earlier if _is_ready(u.body)), r).received
            deleting = "deletionTimestamp" in ((r.answer or {}).get("metadata") or {})
            delete = r if r.verb == "delete" else next((u for u in earlier if deleting and u.verb == "delete"), None)
            if delete and life.deleted is None:
                life.deleted, life.deleted_by = delete.received, delete.user
        return list(lives.values())


def _is_ready(snapshot):
    return ((snapshot or {}).get("status") or {}).get("readyToUse") is True


def _request(event):
    ref = event["objectRef"]
    answer = event.get("responseObject")
    name = ref.get("name") or ((answer or {}).get("metadata") or {}).get("name", "")
    return Request(
        received=_seconds(event["requestReceivedTimestamp"]),
        answered=_seconds(event["stageTimestamp"]),
        user=event["user"].get("username", ""),
        verb=event["verb"],
        resource=ref["resource"] + (f"/{ref['subresource']}" if "subresource" in ref else ""),
        namespace=ref.get("namespace", ""),
        name=name,
        code=event.get("responseStatus", {}).get("code", 0),
        uri=event["requestURI"],
        body=event.get("requestObject"),
        answer=answer,
    )


def _seconds(text):
    return datetime.datetime.fromisoformat(text).timestamp()
