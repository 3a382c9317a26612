"""A bank account that survives kill -9: asks, exceptions that reach the asker, and a crash in the middle of a hundred
deposits.

The account writes each change to its journal before it answers, and reads the journal when it starts. Whoever asks for
a deposit and hears `ActorDied` can't know whether the money was booked: the process may have died before or after. So
each deposit carries a number, the account books each number once, and the answer to a doubt is to ask again.

    python examples/bank.py
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path

from actors import Actor, ActorDied, ActorRef, ActorSystem


class InsufficientFunds(Exception):
    """The account has less than was asked for."""


class Account(Actor):
    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.booked: dict[str, int] = {}

    def on_start(self) -> None:
        if self.journal.exists():
            for line in self.journal.read_text().splitlines():
                number, amount = line.split()
                self.booked[number] = int(amount)

    def deposit(self, number: str, amount: int) -> int:
        """Book `amount` under `number` unless it is booked already; the new balance."""
        if number not in self.booked:
            with self.journal.open("a") as journal:
                journal.write(f"{number} {amount}\n")
            self.booked[number] = amount
        return self.balance()

    def withdraw(self, number: str, amount: int) -> int:
        if amount > self.balance() and number not in self.booked:
            raise InsufficientFunds(f"{amount} asked for, {self.balance()} there")
        return self.deposit(number, -amount)

    def balance(self) -> int:
        return sum(self.booked.values())

    def pid(self) -> int:
        return os.getpid()


async def deposit(account: ActorRef[Account], number: str, amount: int) -> bool:
    """Deposit once, however often it takes; True if the account died over it."""
    died = False
    while True:
        try:
            await account.ask(Account.deposit, number, amount)
            return died
        except ActorDied as error:
            if not error.restarting:
                raise
            died = True


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with ActorSystem() as system:
            account = await system.spawn_async(Account, Path(folder) / "journal", name="account")

            print("balance", await account.ask(Account.deposit, "salary", 1000))
            try:
                await account.ask(Account.withdraw, "car", 5000)
            except InsufficientFunds as error:  # its own type; the account lives on
                print("refused:", error)

            pid = await account.ask(Account.pid)
            deposits = [asyncio.create_task(deposit(account, f"coin-{number}", 1)) for number in range(100)]
            await asyncio.sleep(0)  # the deposits are on their way
            os.kill(pid, signal.SIGKILL)
            in_doubt = sum(await asyncio.gather(*deposits))
            print(f"killed process {pid} on the way; {in_doubt} of 100 deposits had to be asked for again")

            balance = await account.ask(Account.balance)
            print(f"balance {balance} in process {await account.ask(Account.pid)}")
            assert balance == 1100


if __name__ == "__main__":
    asyncio.run(main())
