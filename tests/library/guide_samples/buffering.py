from swarmstream import Agent

def buffered_callback(min_chunk_size: int = 10):
    """
    Buffer tokens before processing
    """
    buffer = []

    def callback(token: str):
        buffer.append(token)

        # Process when buffer reaches minimum size
        if len(buffer) >= min_chunk_size:
            chunk = "".join(buffer)
            print(chunk, end="", flush=True)
            buffer.clear()

    return callback

agent = Agent(
    model_name="gpt-4o-mini",
    streaming_on=True,
    print_on=False,
)

response = agent.run(
    task="Generate report",
    streaming_callback=buffered_callback(min_chunk_size=20),
)
