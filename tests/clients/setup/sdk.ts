import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const apiKey = process.env.FIREWORKS_API_KEY;
const anthropic = new Anthropic({ baseURL: "http://localhost:8787", apiKey });
const openai = new OpenAI({ baseURL: "http://localhost:8787/v1", apiKey });
