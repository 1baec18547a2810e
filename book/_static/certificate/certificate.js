// Turns a grader's code into a certificate: to be looked at, printed, or passed on as a link that draws it again.

import { share as shareLink } from "../link.js";
import { element } from "../toys/kit.js";
import { read } from "./code.js";

const place = document.getElementById("certificate");
const PRINTS = "prints-certificate";

/** The certificate itself, as HTML; what follows from the score alone. */
function sheet({ task, right }, name, code) {
  const line = (className, ...text) => element("p", { className }, ...text);
  return element("article", { className: "certificate-sheet", "aria-label": `Certificate for ${name || "a reader"}` },
    line("certificate-book", "The Q-Layer book"),
    line("certificate-kind", "Break it yourself"),
    line("certificate-name", name || "A reader who gave no name"),
    line("certificate-deed", `broke network ${task.number}:`),
    line("certificate-task", task.title),
    line("certificate-goal", task.goal),
    line("certificate-score", "Under this attack it is right on only ", element("b", {}, `${right.toFixed(1)} %`), " of the hidden images;"),
    line("certificate-terms", `${task.target} % or less was asked for. No pixel moved by more than ${task.eps}.`),
    line("certificate-code", code));
}

/** Why there is no certificate for this code. */
function refusal(found, name, code) {
  if (!code.trim()) return "Paste the code that the grader gave you.";
  if (!found) return `This is no code that the grader gave to ${name || "a reader without a name"}: type both, the code and the name, as they were given.`;
  return `A true code, but network ${found.task.number} isn't broken yet: it is right on ${found.right.toFixed(1)} %, and breaks at ${found.task.target} %.`;
}

function fill(tasks) {
  const asked = new URLSearchParams(location.search);
  const field = (name, label) => {
    const input = element("input", { id: `certificate-${name}`, name, value: asked.get(name) ?? "", autocomplete: "off", spellcheck: false, maxLength: 60 });
    return [element("label", { for: input.id }, label), input];
  };
  const [codeLabel, code] = field("code", "Code"), [nameLabel, name] = field("name", "Name that you gave to the grader");
  const said = element("p", { className: "certificate-said", role: "status" });
  const shown = element("div", { className: "certificate-shown" });
  const link = element("input", { className: "certificate-link", readOnly: true, hidden: true, "aria-label": "a link to this certificate, to be copied" });
  const press = (text, onclick) => element("button", { type: "button", textContent: text, onclick });
  const share = press("Copy link", () => shareLink(address(), share, link));
  const buttons = element("div", { className: "certificate-buttons", hidden: true }, press("Print", printSheet), share);
  const form = element("form", { onsubmit: (event) => (event.preventDefault(), show()) },
    codeLabel, code, nameLabel, name, element("button", { type: "submit" }, "Draw the certificate"));

  const address = () => {
    const query = new URLSearchParams({ code: code.value.trim().toUpperCase(), name: name.value.trim() });
    return new URL(`?${query}#certificate`, location.href).href;
  };

  function show() {
    const found = read(code.value, name.value, tasks), done = found !== null && found.right <= found.task.target;
    said.textContent = done ? "" : refusal(found, name.value.trim(), code.value);
    shown.replaceChildren(...(done ? [sheet(found, name.value.trim(), code.value.trim().toUpperCase())] : []));
    buttons.hidden = !done;
    link.hidden = true;
    share.textContent = "Copy link";
    if (done) said.textContent = `Network ${found.task.number} is broken: here is your certificate.`;
  }

  /** Print the certificate alone: a copy of it stands beside the page, which is hidden meanwhile. */
  function printSheet() {
    const sheetAlone = shown.firstElementChild.cloneNode(true), root = document.documentElement;
    sheetAlone.classList.add("certificate-paper");
    document.body.append(sheetAlone);
    root.classList.add(PRINTS);
    addEventListener("afterprint", () => (root.classList.remove(PRINTS), sheetAlone.remove()), { once: true });
    print();
  }

  place.replaceChildren(form, said, shown, buttons, link);
  place.classList.add("certificate");
  if (asked.get("code")) show();
}

if (place) {
  const sheet = new URL("certificate.css", import.meta.url).href;
  const styled = new Promise((done) => {
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: sheet, onload: done, onerror: done }));
  });
  styled.then(() => fill(JSON.parse(place.dataset.tasks)));
}
