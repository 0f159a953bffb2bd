"""Draws fleet.svg from the figures of pkg/fleet's simulation.

    go test ./pkg/fleet -run Thousand -figures ../../deploy/reliability
    python plot.py            (matplotlib 3)
"""
import csv
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

here = pathlib.Path(__file__).parent


def read(name):
    with open(here / name) as f:
        return list(csv.DictReader(f))


def column(rows, name):
    return [float(r[name]) for r in rows if r[name]]


plt.rcParams.update({"svg.hashsalt": "spin", "svg.fonttype": "none", "font.size": 9})
shares, times = read("fleet-idle.csv"), read("fleet-time.csv")
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")

x = [100 * v for v in column(shares, "slow_share")]
left.plot(x, [100 * v for v in column(shares, "idle_without")], "o-", label="without hedging")
left.plot(x, [100 * v for v in column(shares, "idle_with")], "o-", label="with hedging")
left.set(xlabel="generators that are 20 times slower, %", ylabel="trainer's idle share, %", ylim=(0, None))
left.legend(frameon=False)

for axes, kind, label in ((middle, "idle_seconds", "trainer has idled, s"), (right, "waiting", "tasks that wait in the queue")):
    for how in ("without", "with"):
        y = column(times, f"{kind}_{how}")
        axes.plot(range(len(y)), y, label=f"{how} hedging")
    axes.set(xlabel="virtual time, s (2 % of the generators slow)", ylabel=label, ylim=(0, None))
right.set_xlim(0, 60)
for axes in (left, middle, right):
    axes.spines[["top", "right"]].set_visible(False)
fig.suptitle("1,000 generators that join over 30 s and live 5 min: one iteration of 49,792 prompts", fontsize=10)
fig.savefig(here / "fleet.svg", metadata={"Date": None})
