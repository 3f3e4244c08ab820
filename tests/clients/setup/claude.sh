export ANTHROPIC_BASE_URL=http://localhost:8787
export ANTHROPIC_AUTH_TOKEN="$FIREWORKS_API_KEY"
export ANTHROPIC_MODEL=accounts/fireworks/models/kimi-k2p6
export ANTHROPIC_DEFAULT_HAIKU_MODEL="$ANTHROPIC_MODEL"
claude
