// What an application does with the official client, one scenario a run:
//   node official_client.mjs BASE_URL SCENARIO
// Ends with 0 if everything was as asserted; test_official_client.py runs it.
import assert from "node:assert/strict"
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"

const [baseUrl, scenario] = process.argv.slice(2)
const url = `${baseUrl}/v1/stream/official-client/${scenario}`
const JSON_TYPE = "application/json"

const scenarios = {
  async bytes() {
    const handle = await DurableStream.create({ url, contentType: "text/plain" })
    await handle.append("Hello, ")
    await handle.append("stream.")
    const response = await handle.stream({ live: false })
    assert.equal(await response.text(), "Hello, stream.")
    assert.equal(response.upToDate, true)
    assert.equal(response.streamClosed, false)
    // An offset that was handed out resumes where it stood.
    await handle.append(" More.")
    const rest = await stream({ url, offset: response.offset, live: false })
    assert.equal(await rest.text(), " More.")
  },

  async metadata() {
    assert.deepEqual(await DurableStream.head({ url }), { exists: false })
    await DurableStream.create({ url, contentType: "text/plain", ttlSeconds: 3600 })
    const head = await DurableStream.head({ url })
    assert.equal(head.exists, true)
    assert.equal(head.contentType, "text/plain")
    await assert.rejects(DurableStream.create({ url, contentType: JSON_TYPE }), { status: 409 })
    await DurableStream.delete({ url })
    assert.equal((await DurableStream.head({ url })).exists, false)
  },

  async jsonBatches() {
    const handle = await DurableStream.create({ url, contentType: JSON_TYPE })
    const items = Array.from({ length: 500 }, (_, n) => ({ n, text: "ü€😀".repeat(n % 7) }))
    await Promise.all(items.map((item) => handle.append(JSON.stringify(item))))
    const read = await (await handle.stream({ live: false })).json()
    assert.deepEqual(read, items)
    // An array is one message if it is appended as one.
    await handle.append(JSON.stringify([1, [2]]))
    assert.deepEqual((await (await handle.stream({ live: false })).json()).at(-1), [1, [2]])
  },

  async producer() {
    const handle = await DurableStream.create({ url, contentType: JSON_TYPE })
    const producer = new IdempotentProducer(handle, "writer", { maxBatchBytes: 200, lingerMs: 1 })
    for (let n = 0; n < 1000; n++) producer.append(JSON.stringify({ n }))
    await producer.flush()
    await producer.close(JSON.stringify({ n: 1000 }))
    const response = await handle.stream({ live: false })
    const read = await response.json()
    assert.deepEqual(read.map((item) => item.n), Array.from({ length: 1001 }, (_, n) => n))
    assert.equal(response.streamClosed, true)
  },

  async fencing() {
    const handle = await DurableStream.create({ url, contentType: "text/plain" })
    const old = new IdempotentProducer(handle, "writer", { epoch: 0 })
    old.append("a")
    await old.flush()
    const heir = new IdempotentProducer(handle, "writer", { autoClaim: true, epoch: 1 })
    heir.append("b")
    await heir.flush()
    let refused
    const zombie = new IdempotentProducer(handle, "writer", { onError: (e) => (refused = e) })
    zombie.append("c")
    await zombie.flush().catch(() => {})
    assert.equal(refused?.name, "StaleEpochError")
    assert.equal(await (await handle.stream({ live: false })).text(), "ab")
  },

  longPoll: () => follow("long-poll", JSON_TYPE, encodeJson, collectJson),
  sseJson: () => follow("sse", JSON_TYPE, encodeJson, collectJson),
  sseText: () => follow("sse", "text/plain", (n) => `line ${n} é\n`, collectText),
  sseBinary: () => follow("sse", "application/octet-stream", encodeBytes, collectBytes),
  longPollBinary: () => follow("long-poll", "application/octet-stream", encodeBytes, collectBytes),

  async manyChunks() {
    const handle = await DurableStream.create({ url, contentType: "application/octet-stream" })
    const sent = Array.from({ length: 12 }, (_, n) => new Uint8Array(1_000_000).fill(n + 1))
    for (const part of sent) await handle.append(part)
    // Not `live: false`: with that the client stops after one answer, at the tail or not.
    const response = await handle.stream({ live: "long-poll" })
    assert.deepEqual(Buffer.from(await response.body()), Buffer.concat(sent))
    assert.equal(response.upToDate, true)
  },

  async closing() {
    const handle = await DurableStream.create({ url, contentType: "text/plain", body: "one" })
    const { finalOffset } = await handle.close({ body: ", last" })
    assert.equal((await handle.close()).finalOffset, finalOffset)
    assert.equal((await handle.head()).streamClosed, true)
    await assert.rejects(handle.append("late"))
    const response = await handle.stream({ live: "long-poll" })
    assert.equal(await response.text(), "one, last")
    await response.closed
  },

  async createdClosed() {
    await DurableStream.create({ url, contentType: JSON_TYPE, body: "[1,2]", closed: true })
    const response = await stream({ url, live: "sse" })
    assert.deepEqual(await response.json(), [1, 2])
  },
}

const encodeJson = (n) => JSON.stringify({ n })
const encodeBytes = (n) => Uint8Array.from({ length: 1 + (n * 37) % 5000 }, (_, i) => (i * n) % 256)

// Each collector subscribes and returns a function that gives what has come so far as bytes.
function collectJson(response) {
  const items = []
  response.subscribeJson((batch) => void items.push(...batch.items))
  return () => Buffer.from(items.map((item) => JSON.stringify(item)).join(""))
}

function collectText(response) {
  const parts = []
  response.subscribeText((chunk) => void parts.push(chunk.text))
  return () => Buffer.from(parts.join(""))
}

function collectBytes(response) {
  const parts = []
  response.subscribeBytes((chunk) => void parts.push(chunk.data))
  return () => Buffer.concat(parts)
}

// A reader that follows from the start sees what was there, then what comes, then the end.
async function follow(live, contentType, encode, collect) {
  const handle = await DurableStream.create({ url, contentType })
  const sent = []
  const send = async (from, to) => {
    for (let n = from; n < to; n++) {
      sent.push(Buffer.from(encode(n)))
      await handle.append(encode(n))
    }
  }
  await send(0, 20)
  const response = await handle.stream({ live })
  const received = collect(response)
  await send(20, 40)
  await until(() => received().length === Buffer.concat(sent).length)
  await send(40, 60)
  await handle.close()
  await response.closed
  assert.deepEqual(received(), Buffer.concat(sent))
  assert.equal(response.streamClosed, true)
}

async function until(condition) {
  const deadline = Date.now() + 10_000
  while (!condition()) {
    assert.ok(Date.now() < deadline, `still not so: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

await scenarios[scenario]()
