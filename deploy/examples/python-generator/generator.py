"""A generator for SPIN that shares no code with the others: it speaks the protocol, and that is all it takes.

    python generator.py --nats-url nats://127.0.0.1:4222 --blob-dir /shared/blobs --fingerprint example/python

Tasks come from the work queue SPIN_PROMPTS, from two consumers for each run; games go to spin.<run>.games.<t>.<prompt>,
where the first write wins. Run as often as you like, kill at any time. README.md says what is left out."""

import argparse
import asyncio
import hashlib
import json
import os
import signal
import ssl
import sys
import time
import uuid

import nats
from nats.errors import TimeoutError
from nats.js.errors import APIError, NotFoundError

import schema
from policy import Policy

QUEUE, GAMES, CHECKPOINTS = "SPIN_PROMPTS", "SPIN_GAMES", "SPIN_CHECKPOINTS"
SUBJECT_HOLDS_ONE = 10077  # JetStream's error code where a bound of a stream or a subject is met


class Release(Exception):
    """The task goes back to the queue, for somebody else or for later."""


class Generator:
    def __init__(self, nc, blob_dir, fingerprint):
        self.nc, self.js = nc, nc.jetstream()
        self.blob_dir, self.fingerprint = blob_dir, fingerprint
        self.instance = "generator-" + uuid.uuid4().hex[:8]
        self.policies = {}  # by weights_sha256

    async def run(self):
        while True:
            found = False
            for consumer, ack_wait in await self.queues():
                task = await self.next(QUEUE, consumer)
                if task is not None:
                    found = True
                    await self.work(task, ack_wait)
            if not found:
                await asyncio.sleep(0.2)

    async def api(self, subject, request=None):
        """One request to JetStream; its answer as JSON."""
        reply = await self.nc.request("$JS.API." + subject, json.dumps(request or {}).encode(), timeout=5)
        answer = json.loads(reply.data)
        if "error" in answer:
            raise APIError.from_error(answer["error"])
        return answer

    async def queues(self):
        """The consumers of the open runs, urgent-<run> before run-<run>, each with the time in which a lease must be renewed."""
        names, offset = [], 0
        while True:
            page = await self.api(f"CONSUMER.NAMES.{QUEUE}", {"offset": offset})
            names += page["consumers"] or []
            offset += page["limit"]
            if offset >= page["total"]:
                break
        queues = []
        for name in sorted(names, reverse=True):
            try:
                info = await self.api(f"CONSUMER.INFO.{QUEUE}.{name}")
            except NotFoundError:  # its run has just ended
                continue
            if not info.get("paused"):
                queues.append((name, info["config"]["ack_wait"] / 1e9))
        return queues

    async def next(self, stream, consumer):
        """The consumer's next message, None where it has none now."""
        request = json.dumps({"batch": 1, "no_wait": True}).encode()
        try:
            # In the old style, an inbox for each request: what comes has the message's own subject, by which the new style can't tell requests apart.
            msg = await self.nc.request(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", request, timeout=5, old_style=True)
        except TimeoutError:
            return None
        return None if (msg.headers or {}).get("Status") else msg

    async def work(self, task, ack_wait):
        lease = asyncio.create_task(self.keep(task, ack_wait))
        try:
            chunk = schema.chunk.Chunk.FromString(task.data)
            if chunk.engines and self.fingerprint not in chunk.engines:
                raise Release(f"the run takes games of {', '.join(chunk.engines)}, this is {self.fingerprint}")
            await self.play(chunk, task.metadata.num_delivered)
        except Exception as error:  # whatever it was, the task must not be lost
            print(f"task {task.subject} goes back: {error!r}", file=sys.stderr, flush=True)
            await task.nak(delay=1)
        else:
            await task.ack_sync(timeout=5)
        finally:
            lease.cancel()

    async def keep(self, task, ack_wait):
        """Renews the lease. An engine that can hang should do so only while tokens flow: a task that nobody works on must go to others."""
        while True:
            await asyncio.sleep(ack_wait / 4)
            await task.in_progress()

    async def play(self, chunk, attempt):
        policy = await self.policy(chunk)
        for prompt in chunk.prompts:
            started = time.monotonic()
            g = schema.game.Game(
                run_id=chunk.run_id, iteration=chunk.iteration, prompt_id=prompt.prompt_id, index=prompt.index, split=prompt.split,
                weights_sha256=chunk.weights_sha256, template_id=chunk.template_id, fingerprint=self.fingerprint, sampling=chunk.sampling,
                messages=prompt.messages, prompt_ids=prompt.prompt_ids, real=prompt.real, kept=prompt.kept,
            )
            for n in range(chunk.draws):
                text, ids, stopped = policy.draw(chunk.sampling.seed, chunk.iteration, prompt.prompt_id, n, chunk.sampling.max_new_tokens)
                reason = schema.game.FINISH_REASON_STOP if stopped else schema.game.FINISH_REASON_LENGTH
                g.draws.add(
                    sample_id=f"{chunk.run_id}/{chunk.iteration}/{prompt.prompt_id}/{n}", iteration=chunk.iteration, draw=n,
                    response=schema.game.Response(text=text, token_ids=ids, finish_reason=reason),
                )
            for response in [g.real, *(d.response for d in g.draws), *(d.response for d in g.kept)]:
                response.token_logps[:], response.entropy = policy.score(prompt.prompt_ids, response.token_ids)
            g.circumstance.instance, g.circumstance.attempt = self.instance, attempt
            g.circumstance.created_at.GetCurrentTime()
            g.circumstance.seconds = time.monotonic() - started
            await self.publish(g)

    async def publish(self, g):
        """Writes a game. That its subject holds one already is as good."""
        subject = f"spin.{g.run_id}.games.{g.iteration}.{g.prompt_id}"
        headers = {"Spin-Schema": "spin.v1.Game", "Content-Type": "application/protobuf", "Spin-Run": g.run_id, "Spin-Weights": g.weights_sha256}
        try:
            await self.js.publish(subject, g.SerializeToString(deterministic=True), stream=GAMES, headers=headers)
        except APIError as error:
            if error.err_code != SUBJECT_HOLDS_ONE:
                raise
            try:
                await self.js.get_last_msg(GAMES, subject, direct=True)
            except NotFoundError:
                raise Release("the stream of games is full") from error

    async def policy(self, chunk):
        """The policy that the task's weights make."""
        if chunk.weights_sha256 not in self.policies:
            self.policies = {chunk.weights_sha256: Policy(await self.checkpoint(chunk.run_id, chunk.weights_sha256))}
        return self.policies[chunk.weights_sha256]

    async def checkpoint(self, run_id, weights):
        """The small files of the checkpoint with that digest, from the folder of blobs. An engine would load its weights here too."""
        name, filter_subject = self.instance + "-" + uuid.uuid4().hex[:8], f"spin.{run_id}.checkpoints.>"
        await self.api(f"CONSUMER.CREATE.{CHECKPOINTS}.{name}.{filter_subject}", {"stream_name": CHECKPOINTS, "config": {
            "name": name, "filter_subject": filter_subject, "deliver_policy": "all", "ack_policy": "none", "inactive_threshold": 60_000_000_000,
        }})
        try:
            while msg := await self.next(CHECKPOINTS, name):
                manifest = schema.checkpoint.Checkpoint.FromString(msg.data)
                if manifest.weights_sha256 == weights:
                    return {f.name: self.blob(f.sha256) for f in manifest.files if f.name.endswith(".json")}
        finally:
            await self.api(f"CONSUMER.DELETE.{CHECKPOINTS}.{name}")
        raise Release(f"no checkpoint with weights {weights[:12]} has been announced")

    def blob(self, digest):
        with open(os.path.join(self.blob_dir, digest[:2], digest), "rb") as f:
            data = f.read()
        if hashlib.sha256(data).hexdigest() != digest:
            raise Release(f"blob {digest[:12]} is damaged")
        return data


def connection(args):
    """How the broker knows us, and we it: secrets come from files."""
    options = {"servers": args.nats_url.split(","), "inbox_prefix": "_INBOX_generator", "name": "generator/python", "max_reconnect_attempts": -1}
    if args.nats_nkey:
        options["nkeys_seed"] = args.nats_nkey
    if args.nats_token_file:
        with open(args.nats_token_file) as f:
            options["token"] = f.read().strip()
    if args.nats_ca:
        options["tls"] = ssl.create_default_context(cafile=args.nats_ca)
        if args.nats_cert:
            options["tls"].load_cert_chain(args.nats_cert, args.nats_key)
    return options


async def main(args):
    nc = await nats.connect(**connection(args))
    generator = Generator(nc, args.blob_dir, args.fingerprint)
    running = asyncio.create_task(generator.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    print(f"{generator.instance} plays as {args.fingerprint}", flush=True)
    try:
        await running
    except asyncio.CancelledError:
        pass  # the lease of what was in hand runs out
    finally:
        await nc.close()


if __name__ == "__main__":
    p = argparse.ArgumentParser(description="plays SPIN's opponent, in Python")
    p.add_argument("--nats-url", default="nats://127.0.0.1:4222")
    p.add_argument("--nats-nkey", help="file with the seed of the generator's key")
    p.add_argument("--nats-token-file", help="file with a token, as the broker of `spin run` has")
    p.add_argument("--nats-ca", help="certificates that the broker's is signed by, PEM")
    p.add_argument("--nats-cert", help="our certificate, PEM")
    p.add_argument("--nats-key", help="its key, PEM")
    p.add_argument("--blob-dir", required=True, help="the folder of --blob-url file:///folder")
    p.add_argument("--fingerprint", default="example/python", help="names this engine; the run file's `engines` must list it")
    asyncio.run(main(p.parse_args()))
