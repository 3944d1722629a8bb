from swarmstream import Agent

agent = Agent(print_on=False)

# Check if model supports streaming
from litellm.utils import supports_function_calling

model_name = "gpt-4o-mini"
if hasattr(agent.llm, "stream"):
    print("Model supports streaming")
else:
    print("Model may not support streaming")

# Ensure streaming is enabled
agent.streaming_on = True

# Make sure to flush output
def callback(token: str):
    print(token, end="", flush=True)  # flush=True is important!

agent.run("go", streaming_callback=callback)
