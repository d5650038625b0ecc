"""Putting the adjudicator and a court onto a chain, and looking whether what is there now is it."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from tallystick.channels.apps.table import SHIPPED
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.eip712 import domain_separator
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.contracts import RULES, artifact, court_code
from tallystick.settlement.errors import ChainError, ChainUnavailable, RpcError
from tallystick.settlement.ethereum.evm.abi import DOMAIN_SEPARATOR, REWARD_BPS
from tallystick.settlement.ethereum.evm.court import check_court
from tallystick.settlement.ethereum.evm.endpoint import Endpoint, NodeQuestion
from tallystick.settlement.ethereum.evm.fees import HISTORY, PERCENTILE, read_history
from tallystick.settlement.ethereum.evm.gas import GAS_MAX, MARGIN
from tallystick.settlement.ethereum.evm.profiles import profile_of
from tallystick.settlement.ethereum.evm.proofs import IMMUTABLES
from tallystick.settlement.ethereum.evm.questions import read_answer, result
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_address, read_bytes, read_quantity, to_hex
from tallystick.settlement.ethereum.transactions import sign_creation

LOOK_SECONDS = 1.0
"""Between two looks whether the deployment is mined."""


class Deployed(msgspec.Struct, frozen=True):
    """What a deployment came to."""

    chain_id: int
    contract: Address
    block: int
    """From which on the contract is there: what nodes and towers follow from."""
    transaction: bytes
    gas: int
    fee: int
    """In the native coin."""


async def deploy(
    endpoint: Endpoint,
    key: PrivateKey,
    bytecode: bytes,
    reward_bps: int,
    timeout: float,
    court: Address | None = None,
) -> Deployed:
    """Deploy the adjudicator, wait until it is mined, and check it. `key` pays. `court` is whom it asks about apps.

    Raise ChainUnavailable if it is not mined within `timeout` seconds, or ChainError if the chain refuses it, or the
    court is not this version's.
    """
    if not 0 <= reward_bps <= 10_000:
        raise InvalidInput(f"the reward is from 0 to 10000 hundredths of a percent, not {reward_bps}")
    if court is not None:
        await check_court(endpoint, court)
    asked = NATIVE if court is None else court
    made = await _create(endpoint, key, bytecode + reward_bps.to_bytes(32, "big") + asked.rjust(32, b"\0"), timeout)
    await check_contract(endpoint, made.chain_id, made.contract, bytecode)
    return made


async def deploy_court(endpoint: Endpoint, key: PrivateKey, timeout: float) -> Deployed:
    """Deploy the rules of all apps that ship, and then a court that asks them; check it. `key` pays.

    Return what became of the court, with the gas and the fees of all. It takes a transaction for each app, and one.
    `timeout` is for each of them. Raise as `deploy` does: what was deployed until then is of no use to anybody.
    """
    rules: dict[bytes, bytes] = {}
    gas = fee = 0
    for app in SHIPPED:
        made = await _create(endpoint, key, artifact(RULES[app.name, app.version]).code, timeout)
        rules[app.id] = made.contract
        gas, fee = gas + made.gas, fee + made.fee
    court = await _create(endpoint, key, court_code(rules), timeout)
    await check_court(endpoint, court.contract)
    return msgspec.structs.replace(court, gas=gas + court.gas, fee=fee + court.fee)


async def _create(endpoint: Endpoint, key: PrivateKey, data: bytes, timeout: float) -> Deployed:
    """Make a contract of this code, and wait until it is mined."""
    account = to_hex(key.address)
    chain, count, held, history, estimate = await endpoint.ask(
        (
            NodeQuestion("eth_chainId"),
            NodeQuestion("eth_getTransactionCount", (account, "pending")),
            NodeQuestion("eth_getBalance", (account, "latest")),
            NodeQuestion("eth_feeHistory", (quantity(HISTORY), "latest", [PERCENTILE])),
            NodeQuestion("eth_estimateGas", ({"from": account, "data": to_hex(data)},)),
        )
    )
    chain_id = read_answer(read_quantity, chain)
    market = read_answer(lambda value: read_history(value, profile_of(chain_id).tip_min), history)
    gas = gas_to_deploy(read_answer(read_quantity, estimate))
    coins = read_answer(read_quantity, held)
    if coins < gas * market.cap:
        raise InvalidInput(f"account {account} holds {coins}, and deploying may cost {gas * market.cap}: put coins in")
    raw = sign_creation(key, chain_id, data, read_answer(read_quantity, count), market.cap, market.tip, gas)
    (sent,) = await endpoint.ask((NodeQuestion("eth_sendRawTransaction", (to_hex(raw),)),))
    transaction = read_answer(lambda value: read_bytes(value, "hash", 32), sent)
    receipt = await _mined(endpoint, transaction, timeout)
    if read_quantity(receipt.get("status")) != 1:
        raise ChainError("the chain refused the contract's code; is its virtual machine older than Cancun?")
    contract = read_address(receipt.get("contractAddress"))
    used, price = read_quantity(receipt.get("gasUsed")), read_quantity(receipt.get("effectiveGasPrice"))
    return Deployed(chain_id, contract, read_quantity(receipt.get("blockNumber")), transaction, used, used * price)


def gas_to_deploy(estimate: int) -> int:
    """Return the limit for a deployment that a node thinks takes so much.

    Where it takes more than a transaction may have elsewhere (from Amsterdam on, what is stored is not under that cap,
    EIP-8037), the chain has another cap or none.
    """
    wanted = estimate * MARGIN[0] // MARGIN[1]
    return wanted if estimate > GAS_MAX else min(GAS_MAX, wanted)


async def check_contract(endpoint: Endpoint, chain_id: int, contract: Address, bytecode: bytes) -> int:
    """Check that the code at an address is that of our artifact, and answers as it; return its reward in bps.

    Raise ChainError if it is not. `bytecode` is what a deployment sends: the code that stays is in it, but for the
    immutables.
    """
    where = {"to": to_hex(contract)}
    code, domain, reward = await endpoint.ask(
        (
            NodeQuestion("eth_getCode", (to_hex(contract), "latest")),
            NodeQuestion("eth_call", ({**where, "data": to_hex(DOMAIN_SEPARATOR.encode_call())}, "latest")),
            NodeQuestion("eth_call", ({**where, "data": to_hex(REWARD_BPS.encode_call())}, "latest")),
        )
    )
    found = read_answer(read_bytes, code)
    if len(found) <= IMMUTABLES or found[:-IMMUTABLES] not in bytecode:
        what = f"other code ({keccak(found).hex()[:16]})" if found else "no code"
        raise ChainError(f"there is {what} at 0x{contract.hex()}: it is not this version of the adjudicator")
    if isinstance(domain, RpcError) or domain != to_hex(domain_separator(chain_id, contract)):
        raise ChainError(f"the contract at 0x{contract.hex()} signs for another chain or address than its own")
    return int(read_answer(REWARD_BPS.decode_result, to_bytes(reward))[0])


def to_bytes(answer: Any) -> Any:
    """Return an answer of hex as bytes, an error as it is."""
    return answer if isinstance(answer, RpcError) else read_bytes(result(answer))


async def _mined(endpoint: Endpoint, transaction: bytes, timeout: float) -> dict[str, Any]:
    with trio.move_on_after(timeout):
        while True:
            (answer,) = await endpoint.ask((NodeQuestion("eth_getTransactionReceipt", (to_hex(transaction),)),))
            if isinstance(answer, dict):
                return answer
            await trio.sleep(LOOK_SECONDS)
    raise ChainUnavailable(f"0x{transaction.hex()} was not mined within {timeout:g} seconds; look for it before anew")
