// Package e2e holds the tests of the whole loop: all four services, a real embedded broker, a real
// embedded ClickHouse, and a model small enough to play two iterations in a second. What the design
// promises of a run (its rows, its digests, that luck does not matter) is held here.
package e2e
