curl http://localhost:8787/v1/chat/completions \
  -H "Authorization: Bearer $FIREWORKS_API_KEY" -H "Content-Type: application/json" \
  -d '{"model":"accounts/fireworks/models/kimi-k2p6","messages":[{"role":"user","content":"hi"}]}'

curl http://localhost:8787/v1/messages \
  -H "x-api-key: $FIREWORKS_API_KEY" -H "Content-Type: application/json" \
  -d '{"model":"accounts/fireworks/models/kimi-k2p6","max_tokens":200,
       "messages":[{"role":"user","content":"hi"}]}'
