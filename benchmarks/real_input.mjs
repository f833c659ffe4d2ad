// The client's half of real_input.py:
//   node real_input.mjs write URL CONTENT_TYPE FILE   append each line of FILE
//   node real_input.mjs read URL FILE                 write what the stream holds to FILE
// Prints one JSON object a line: progress while writing, a summary at the end.
import { createReadStream, createWriteStream } from "node:fs"
import { finished } from "node:stream/promises"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
// Not by its bare name: the packages are installed below tests/.
import {
  DurableStream,
  IdempotentProducer,
  stream,
} from "../tests/node_modules/@durable-streams/client/dist/index.js"

const PENDING_BATCHES_MAX = 16
const RETRY_MS = 50

const [command, url, ...rest] = process.argv.slice(2)
const report = (facts) => console.log(JSON.stringify(facts))

async function write(contentType, file) {
  let acknowledged = 0
  let resent = 0
  // The producer leaves broken connections to its fetch: send the identical request again.
  const persistentFetch = async (target, options) => {
    for (;; resent += 1, await sleep(RETRY_MS)) {
      const response = await fetch(target, options).catch((error) => {
        if (!(error instanceof TypeError)) throw error // anything but a network error
      })
      if (response && response.status !== 503) {
        if (response.ok) report({ acknowledged: (acknowledged += options.body?.length ?? 0) })
        return response
      }
      await response?.arrayBuffer()
    }
  }
  const handle = await DurableStream.create({ url, contentType })
  let failure
  const producer = new IdempotentProducer(handle, "real-input", {
    fetch: persistentFetch,
    maxBatchBytes: 256 * 1024,
    onError: (error) => (failure ??= error),
  })
  const newline = contentType === "application/json" ? "" : "\n"
  for await (const line of createInterface({ input: createReadStream(file), crlfDelay: 0 })) {
    if (failure) throw failure
    producer.append(line + newline)
    while (producer.inFlightCount > PENDING_BATCHES_MAX) await sleep(1)
  }
  await producer.flush()
  if (failure) throw failure
  await producer.close()
  report({ batches: producer.nextSeq, resent })
}

async function read(file) {
  // With `live: false` this client stops after one chunk, at the tail or not.
  const response = await stream({ url, live: "long-poll" })
  const output = createWriteStream(file)
  const put = async (data) => {
    if (!output.write(data)) await new Promise((resolve) => output.once("drain", resolve))
  }
  if (response.contentType === "application/json") {
    for await (const item of response.jsonStream()) await put(JSON.stringify(item) + "\n")
  } else {
    for await (const bytes of response.bodyStream()) await put(bytes)
  }
  output.end()
  await finished(output)
  report({ closed: (await DurableStream.head({ url })).streamClosed })
}

await { write, read }[command](...rest)
