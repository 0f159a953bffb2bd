"""The orders that order_test.go freezes, by an implementation of its own: python3 testdata/order.py"""

MASK = (1 << 64) - 1


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class SplitMix64:
    def __init__(self, state):
        self.state = state & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        return mix(self.state)

    def below(self, n):
        while True:
            product = self.next() * n
            if (product & MASK) >= (1 << 64) % n:
                return product >> 64


def order(seed, stage, iteration, epoch, n):
    s = SplitMix64(seed)
    for word in (int.from_bytes(stage.encode().ljust(8, b"\0"), "little"), iteration, epoch):
        s = SplitMix64(s.next() ^ word)
    games = list(range(n))
    for i in range(n - 1, 0, -1):
        j = s.below(i + 1)
        games[i], games[j] = games[j], games[i]
    return games


for stage, iteration, epoch in (("spin", 0, 1), ("spin", 0, 2), ("spin", 1, 1), ("sft", 0, 1)):
    print(stage, iteration, epoch, order(1, stage, iteration, epoch, 10))
