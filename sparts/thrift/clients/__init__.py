"""What the blocking and the asyncio client are made of; the clients themselves stand above."""
