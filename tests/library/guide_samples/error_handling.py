import logging

from swarmstream import Agent

logger = logging.getLogger(__name__)

def safe_streaming_callback(token: str):
    """
    Callback with error handling
    """
    try:
        # Process token
        print(token, end="", flush=True)

        # Additional processing
        # send_to_api(token)

    except Exception as e:
        logger.error(f"Streaming error: {e}")
        # Continue streaming despite error

agent = Agent(
    model_name="gpt-4o-mini",
    streaming_on=True,
)

response = agent.run(
    task="Generate content",
    streaming_callback=safe_streaming_callback,
)
