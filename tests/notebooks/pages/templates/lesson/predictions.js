// Each prediction: the chosen answer is written below its question, and nowhere else.
for (const form of document.querySelectorAll(".prediction")) {
  const note = form.querySelector("output");
  form.addEventListener("change", (event) => (note.value = `Recorded: ${event.target.value}.`));
  form.addEventListener("submit", (event) => event.preventDefault()); // the key Enter
}
