"""The terms that a report needs, each in one sentence; docs/terms.md is the same list."""

TERMS = {
    "Weld": "All photographs of one physical weld, a group: they stand in one split, because they resemble each other.",
    "Split": (
        "Training learns from its images, validation chooses the epoch, the temperature and the thresholds, and the "
        "test measures what is left."
    ),
    "Leak": "The same weld or picture is in training and in the test, so that the figures measure memory.",
    "Balanced accuracy": "The mean over the classes of the share of their photographs that are predicted right.",
    "Calibration": "Scaling the scores on validation images, so that of photographs given 90 % nine in ten are right.",
    "Operating point": (
        "The two thresholds on the probability of being sound: above one a photograph is accepted, below the other it "
        "is rejected, and between them an inspector decides (refer)."
    ),
    "Escape": "A defect that is accepted; where no threshold is named, one whose predicted class is sound.",
    "False reject": "A sound weld that is rejected. A false call is one that is not accepted: rejected or referred.",
    "Bound": (
        "What the true rate does not exceed, with 95 % confidence; the fewer welds were tested, the further it lies "
        "above the measured rate."
    ),
    "Target": "The rate of escapes or of false rejects that was asked for; it is met where the bound is not above it.",
    "Unlike training": (
        "The photograph lies further from all training images than validation images do; it is referred, whatever its "
        "score."
    ),
}
