"""What deploy/ promises and no schema knows.

    deploy.py objects RENDERED CORE   asserts over helm's output; writes what is not a custom resource to CORE
    deploy.py compose MODEL           asserts over the loaded compose file, JSON
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

SERVICES = ("generator", "trainer", "evaluator", "recorder")
BUS = "".join(Path("pkg/bus", name).read_text() for name in ("streams.go", "queue.go"))


def constant(name):
    """A Go constant of pkg/bus, so that what is written in YAML can't go its own way."""
    return re.search(rf'\b{name}\s*=\s*"([^"]+)"', BUS)[1]


def check(condition, what):
    if not condition:
        sys.exit(f"deploy: {what}")


def check_flags(service, arguments):
    """Each flag exists, by the program's own word."""
    done = subprocess.run([f"bin/{service}", "--help"], capture_output=True, text=True)
    known = set(re.findall(r"--([a-z0-9-]+)", done.stdout + done.stderr))
    check(known, f"bin/{service} --help says nothing: make build")
    for argument in arguments:
        if argument.startswith("--"):
            flag = argument[2:].split("=")[0]
            check(flag in known, f"{service} has no flag --{flag}")


def check_pod(service, pod, accounts):
    spec = pod["spec"]
    check(spec["serviceAccountName"] in accounts, f"{service}: no account {spec['serviceAccountName']}")
    check(spec["automountServiceAccountToken"] is False, f"{service}: has a token for Kubernetes")
    check(spec["securityContext"]["runAsNonRoot"] is True, f"{service}: may be root")
    (container,) = spec["containers"]
    security = container["securityContext"]
    check(security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False, f"{service}: {security}")
    check(security["capabilities"] == {"drop": ["ALL"]}, f"{service}: {security}")
    check("env" not in container, f"{service}: secrets are files")
    check(container["livenessProbe"]["httpGet"]["path"] == "/healthz" and container["readinessProbe"]["httpGet"]["path"] == "/readyz", f"{service}: probes")
    for volume in spec["volumes"]:
        check("secret" not in volume or volume["secret"]["defaultMode"] == 0o440, f"{service}: volume {volume['name']} is for everybody")
    mounted = {m["name"] for m in container["volumeMounts"]}
    check(mounted - {"scratch"} <= {v["name"] for v in spec["volumes"]}, f"{service}: mounts {mounted}")
    check_flags(service, container["args"])


def objects(rendered, core):
    found = [d for d in yaml.safe_load_all(Path(rendered).read_text()) if d]
    kinds = {}
    for o in found:
        kinds.setdefault(o["kind"], []).append(o)
    check("Secret" not in kinds, "the chart makes a Secret")
    accounts = {a["metadata"]["name"] for a in kinds["ServiceAccount"]}
    pods = {}
    for o in kinds["Deployment"] + kinds["StatefulSet"]:
        labels = o["spec"]["template"]["metadata"]["labels"]
        check(o["spec"]["selector"]["matchLabels"].items() <= labels.items(), f"{o['metadata']['name']} selects other pods")
        pods[labels["app.kubernetes.io/component"]] = o["spec"]["template"]
    check(sorted(pods) == sorted(SERVICES), f"services {sorted(pods)}")
    for service, pod in pods.items():
        check_pod(service, pod, accounts)
        for kind, selector in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
            of = [o for o in kinds[kind] if o["spec"][selector]["matchLabels"].items() <= pod["metadata"]["labels"].items()]
            check(len(of) == 1, f"{service} has {len(of)} of {kind}")
    for scaled in kinds.pop("ScaledObject", []):
        check(scaled["apiVersion"] == "keda.sh/v1alpha1", scaled["apiVersion"])
        target = scaled["spec"]["scaleTargetRef"]["name"]
        (deployment,) = [d for d in kinds["Deployment"] if d["metadata"]["name"] == target]
        check("replicas" not in deployment["spec"], f"{target}: helm and KEDA would both say how many")
        for trigger in scaled["spec"]["triggers"]:
            m = trigger["metadata"]
            check(trigger["type"] == "nats-jetstream" and all(isinstance(v, str) for v in m.values()), f"trigger {trigger}")
            check(m["stream"] == constant("Prompts"), f"stream {m['stream']}")
            check(re.fullmatch(rf"({constant('plannedPrefix')}|{constant('urgentPrefix')})[0-9a-f]{{32}}", m["consumer"]), f"consumer {m['consumer']}")
    Path(core).write_text(yaml.safe_dump_all(o for kind in kinds.values() for o in kind))


def compose(model):
    services = json.loads(Path(model).read_text())["services"]
    for name, s in services.items():
        check(s["user"] and s["cap_drop"] == ["ALL"] and "no-new-privileges:true" in s["security_opt"], f"{name}: runs as whom, with what")
        check("." not in s["image"].rpartition("/")[0].split("/")[0], f"{name}: image {s['image']} names a registry")
        for key in s.get("environment") or {}:
            check(not re.search("PASSWORD$|SECRET$|TOKEN$", key), f"{name}: {key} is a secret in the environment")
        for port in s.get("ports", []):
            check(port.get("host_ip") == "127.0.0.1", f"{name}: port {port} is open to the network")
    for service in SERVICES:
        check(services[service]["read_only"] is True, f"{service}: its root can be written")
        check_flags(service, services[service]["command"])
        keys = {x["source"] for x in services[service]["secrets"] if x["source"].endswith((".nk", ".key"))}
        check(keys == {f"{service}.nk", f"{service}.key"}, f"{service} holds {sorted(keys)}")


if __name__ == "__main__":
    {"objects": objects, "compose": compose}[sys.argv[1]](*sys.argv[2:])
