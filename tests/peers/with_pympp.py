"""Buys calls of `serve.py` through pympp's own client: `python with_pympp.py URL`, under asyncio, then under trio."""

import asyncio
import sys
from functools import partial

import httpx
import trio
from mpp import Credential
from mpp.client import ClientMethod, CredentialParams, Method, PaymentTransport
from pydantic import BaseModel

URL = sys.argv[1]


class Request(BaseModel):
    amount: str
    currency: str
    methodDetails: dict


class Payload(BaseModel):
    paymentHash: str


CHARGE = Method(name="tallystick", intent="charge", request_model=Request, payload_model=Payload)


async def create_credential(params: CredentialParams) -> str:
    details = params.challenge.request["methodDetails"]
    async with httpx.AsyncClient() as http:
        (await http.post(f"{URL}/pay", content=details["invoice"])).raise_for_status()
    return Credential(params.challenge.to_echo(), {"paymentHash": details["paymentHash"]}).to_authorization()


async def buy(loop: str) -> None:
    transport = PaymentTransport(
        methods=[ClientMethod(method=CHARGE, create_credential=create_credential)], inner=httpx.AsyncHTTPTransport()
    )
    async with httpx.AsyncClient(transport=transport) as http:
        before = (await http.get(f"{URL}/paid")).json()
        answer = await http.get(f"{URL}/fortune")
        assert answer.status_code == 200 and answer.json() == {"number": before["made"] + 1}, answer.text
        assert answer.headers["payment-receipt"]
        assert (await http.post(f"{URL}/echo", content=b"hello")).content == b"hello"
        after = (await http.get(f"{URL}/paid")).json()
        assert after["paid"] - before["paid"] == 12, (before, after)
    print(f"pympp buys under {loop}")


asyncio.run(buy("asyncio"))
trio.run(partial(buy, "trio"))
