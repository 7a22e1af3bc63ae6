"""The fault harness: load, trouble, and an independent judge.

A scenario is a `Stage` (topics and a group of its own on the real broker), a `Generator` that keeps a
`Ledger` of what it sent, `Worker` processes that are only ever used from outside, some trouble (`Nemesis`,
`Proxy`, signals, failpoints), and a `Verifier` that reads everything back with aiokafka: a library the
workers do not use, so that no mistake is shared between the accused and the judge.
"""
