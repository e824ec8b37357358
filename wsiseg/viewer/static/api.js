// Asking the server, and telling the person what went wrong.

const status = document.getElementById("status");

export function say(text, bad = false) {
  status.textContent = text;
  status.classList.toggle("bad", bad);
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The viewer does not answer: is it still running?");
  }
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

export const get = (path) => ask(path);

export const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

// Runs what a key or a button starts; whatever fails is said, not lost.
export async function tell(work) {
  try {
    return await work();
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
}
