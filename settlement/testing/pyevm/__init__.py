"""A node of Ethereum's in pure Python: py-evm behind JSON-RPC, for machines on which there is neither anvil nor geth.

It shares nothing with our contract's rules or our client's reading: blocks, state, transactions and gas are py-evm's.
`node.start_pyevm` starts it as a process; py-evm comes with the extra `tallystick[pyevm]`.
"""
