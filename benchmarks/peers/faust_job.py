"""Stock Faust: one agent from topic to topic."""

import faust_app
from scoring import predict


@faust_app.app.agent(faust_app.transactions)
async def answer(stream):
    async for key, event in stream.items():
        await faust_app.predictions.send(key=key, value=predict(event))


if __name__ == "__main__":
    faust_app.run()
