import os
from anthropic import Anthropic
from openai import OpenAI
from fireworks import Fireworks

key = os.environ["FIREWORKS_API_KEY"]
anthropic = Anthropic(base_url="http://localhost:8787", api_key=key)
openai = OpenAI(base_url="http://localhost:8787/v1", api_key=key)
fireworks = Fireworks(base_url="http://localhost:8787", api_key=key, timeout=600)  # no /v1
