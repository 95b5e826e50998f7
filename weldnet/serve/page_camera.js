// The camera of this machine; a phone's own is the page's `shoot`.

import { find } from "./page_elements.js";

async function openCamera(complain) {
  complain("");
  try {
    const video = { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } };
    find("video").srcObject = await navigator.mediaDevices.getUserMedia({ video });
    await find("video").play();
    find("viewfinder").hidden = false;
    find("take").focus();
  } catch (error) {
    complain(`The camera cannot be used: ${error.message}`);
  }
}

function closeCamera() {
  for (const track of find("video").srcObject?.getTracks() ?? []) track.stop();
  find("video").srcObject = null;
  find("viewfinder").hidden = true;
  find("camera").focus();
}

function takePicture(add) {
  const video = find("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const name = `camera_${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}.jpg`;
  canvas.toBlob((blob) => add([new File([blob], name)]), "image/jpeg", 0.95);
}

export function setUpCamera(add, complain) {
  // Browsers offer it to this machine's own pages and over https alone.
  find("camera").hidden = !navigator.mediaDevices;
  find("camera").addEventListener("click", () => openCamera(complain));
  find("close").addEventListener("click", closeCamera);
  find("take").addEventListener("click", () => takePicture(add));
}
