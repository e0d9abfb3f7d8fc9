"use strict";
// Who starts jobs in one way wants every fix for that way.
document.addEventListener("change", ({ target }) => {
  if (!target.matches(".tabs input")) return;
  for (const other of document.querySelectorAll(".tabs input")) {
    if (other.value === target.value) other.checked = true;
  }
});
